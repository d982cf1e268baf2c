from __future__ import annotations

import numpy as np
import pytest

from vidpara.evaluation.results import EpisodeRecord, Results
from vidpara.report import figures
from vidpara.report.runs import Curve, Run
from vidpara.types import EpisodeStart

RUN = Run(
    "two_stage",
    {
        "train_step/loss": Curve((1, 2, 3), (60.0, 120.0, 180.0), (3.0, 2.0, 1.0)),
        "train_step/lr": Curve((1,), (60.0,), (1e-3,)),
        "val/loss": Curve((3,), (180.0,), (1.5,)),
        "val/pixel_error": Curve((3,), (180.0,), (4.0,)),
    },
    {},
)


def test_training_and_validation_share_a_panel_and_every_axis_has_a_label():
    figure = figures.curves([RUN], "steps", {"two_stage": "#123456"})
    panels = [axes for axes in figure.axes if axes.axison]
    assert [axes.get_title(loc="left") for axes in panels] == ["loss", "pixel error (pixels)"]
    assert all(axes.get_xlabel() == "step" for axes in panels)
    assert len(panels[0].lines) == 3
    assert {line.get_color() for line in panels[0].lines} == {"#123456"}


def test_the_time_axis_is_in_minutes():
    figure = figures.curves([RUN], "minutes", {"two_stage": "#123456"})
    assert np.asarray(figure.axes[0].lines[0].get_xdata()).tolist() == [1.0, 2.0, 3.0]
    assert "minutes" in figure.axes[0].get_xlabel()


def test_a_constant_is_smoothed_to_itself():
    assert figures._smooth([2.0] * 100) == pytest.approx([2.0] * 100)


def test_the_map_puts_every_start_in_its_outcomes_colour():
    episodes = tuple(
        EpisodeRecord(
            EpisodeStart(i, (("object", 0.1 * i, 0.2), ("target", 0.0, 0.0)), (0.0, 0.0)), outcome, 9, 3, 1.0
        )
        for i, outcome in enumerate(("PLACE", "MISS", "MISS"))
    )
    axes = figures.start_maps([Results("two_stage", episodes, "", {}, {}, 0, {})]).axes[0]
    found = {group.get_label(): np.asarray(group.get_offsets()).tolist() for group in axes.collections}
    assert found == {"PLACE": [[0.2, 0.0]], "MISS": [[0.2, 0.1], [0.2, 0.2]]}


def test_starts_of_liberos_own_layout_have_no_place_on_the_map():
    episodes = (EpisodeRecord(EpisodeStart(0, (), (0.0, 0.0)), "PLACE", 9, 3, 1.0),)
    assert not figures.start_maps([Results("two_stage", episodes, "", {}, {}, 0, {})]).axes[0].collections


def test_a_drawing_follows_the_pages_text_and_points_nowhere():
    drawing = figures.svg(figures.curves([RUN], "steps", {"two_stage": "#123456"}))
    assert drawing.startswith("<svg viewBox")
    assert "http" not in drawing and figures.TEXT not in drawing
    assert "currentColor" in drawing and ">pixel error (pixels)<" in drawing


def test_policies_have_colours_of_their_own():
    found = figures.colors(["two_stage", "joint", "two_stage", "frozen_backbone"])
    assert list(found) == ["two_stage", "joint", "frozen_backbone"]
    assert len(set(found.values())) == 3 and not set(found.values()) & set(figures.OUTCOMES.values())
