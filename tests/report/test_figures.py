from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from vidpara.report import figures
from vidpara.report.runs import Curve, Run

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
STYLES = figures.styles(["two_stage"])


def test_training_and_validation_share_a_panel_and_every_axis_has_a_label():
    figure = figures.curves([RUN], "steps", STYLES)
    panels = [axes for axes in figure.axes if axes.axison]
    assert [axes.get_title(loc="left") for axes in panels] == ["loss", "pixel error (pixels)"]
    assert all(axes.get_xlabel() == "step" for axes in panels)
    assert len(panels[0].lines) == 3
    assert {line.get_color() for line in panels[0].lines} == {figures.PALETTE[0]}


def test_the_time_axis_is_in_minutes():
    figure = figures.curves([RUN], "minutes", STYLES)
    assert np.asarray(figure.axes[0].lines[0].get_xdata()).tolist() == [1.0, 2.0, 3.0]
    assert "minutes" in figure.axes[0].get_xlabel()


def test_a_constant_is_smoothed_to_itself():
    assert figures._smooth([2.0] * 100) == pytest.approx([2.0] * 100)


def test_a_drawing_follows_the_pages_text_and_points_nowhere():
    drawing = figures.svg(figures.curves([RUN], "steps", STYLES))
    assert drawing.startswith("<svg viewBox")
    assert "http" not in drawing and figures.TEXT not in drawing
    assert "currentColor" in drawing and ">pixel error (pixels)<" in drawing


def test_policies_have_colours_of_their_own():
    found = figures.styles(["two_stage", "joint", "two_stage", "frozen_backbone"])
    assert list(found) == ["two_stage", "joint", "frozen_backbone"]
    colors = {style["color"] for style in found.values()}
    assert len(colors) == 3 and not colors & set(figures.OUTCOMES.values())


def test_ten_runs_of_a_page_are_told_apart():
    runs = [RUN._replace(name=str(number)) for number in range(10)]
    figure = figures.curves(runs, "steps", figures.styles([run.name for run in runs]))
    lines = figure.axes[0].lines
    trained = {(line.get_color(), line.get_linestyle()) for line in lines if line.get_linewidth() == 1.5}
    judged = {(line.get_color(), line.get_marker()) for line in lines if line.get_marker() in figures.MARKERS}
    named = {(line.get_color(), line.get_marker()) for line in figure.legends[0].get_lines()}
    assert len(trained) == len(judged) == 10 and named == judged


def test_outcomes_differ_in_lightness():
    red, green, blue = np.array([to_rgb(color) for color in figures.OUTCOMES.values()]).T
    lightness = sorted(0.2126 * red**2.2 + 0.7152 * green**2.2 + 0.0722 * blue**2.2)
    assert min(b / a for a, b in pairwise(lightness)) > 1.8
