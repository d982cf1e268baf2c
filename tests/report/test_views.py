"""Success by viewpoint says what the episodes say."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.projections.polar import PolarAxes

from vidpara.evaluation.results import EpisodeRecord, Results
from vidpara.report import figures, study, views
from vidpara.report.published import Cell
from vidpara.types import EpisodeStart

PLACED = {(0.0, 0.0): 2, (90.0, 0.0): 2, (0.0, 12.5): 1, (90.0, 12.5): 0, (0.0, 25.0): 0, (90.0, 25.0): 1}
"""Of two episodes at each view."""


@pytest.fixture
def found() -> Results:
    episodes = tuple(
        EpisodeRecord(EpisodeStart(0, (), view), "PLACE" if number < placed else "MISS", 9, 3, 1.0)
        for view, placed in PLACED.items()
        for number in range(2)
    )
    return Results("policy", episodes, "", {}, {}, 0, {})


def studied(found: Results, recipe: str, test: str = "views") -> Cell:
    return Cell(f"{recipe}-{test}", recipe, {}, test, found, [])


def test_a_line_has_one_point_a_tilt(found: Results):
    ((line, *_),) = [
        container.lines for container in views.by_tilt([studied(found, "para")]).axes[0].containers
    ]
    assert np.asarray(line.get_xydata()).tolist() == [[0, 100], [12.5, 25], [25, 25]]


def test_a_map_has_one_field_a_view_and_one_for_the_default(found: Results):
    axes = views.view_maps([found]).axes[0]
    assert isinstance(axes, PolarAxes)
    colors = [patch.get_facecolor() for patch in axes.patches]
    assert len(colors) == 5
    assert colors.count(views.MAP(1.0)) == 1
    assert colors.count(views.MAP(0.5)) == 2
    assert colors.count(views.MAP(0.0)) == 2
    assert axes.get_rlabel_position() == pytest.approx(225)  # nothing is there, from 135 to 315 degrees


def test_a_map_grows_lighter_from_nothing_to_all():
    colors = np.array([views.MAP(share)[:3] for share in np.linspace(0, 1, 9)])
    lightness = colors**2.2 @ (0.2126, 0.7152, 0.0722)
    assert all(np.diff(lightness) > 0) and lightness[-1] > 5 * lightness[0]


def test_a_recipe_has_the_colour_of_its_studys_other_figures_and_its_tests_differ(found: Results):
    cells = [studied(found, "act", "left"), studied(found, "act", "right"), studied(found, "para")]
    drawn = study.draw(cells, recipes=["para", "regression", "act"])["by_tilt"]
    lines = [container.lines[0] for container in drawn.axes[0].containers]
    blue, act = figures.PALETTE[0], figures.PALETTE[2]
    assert [line.get_color() for line in lines] == [act, act, blue]
    assert (
        lines[0].get_linestyle() != lines[1].get_linestyle()
        and lines[0].get_marker() != lines[1].get_marker()
    )
