"""Figures of the page and the documentation: one palette, labelled axes, text in the colour of the page around it."""

from __future__ import annotations

import io
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from vidpara.report.runs import Curve, Run

PALETTE = ("#3f7fd9", "#c2559d", "#1a9e96", "#9a6b3f", "#7a869a", "#7b5fc9", "#b08900", "#4f8f3a")
"""One colour a policy, told apart from one another and from the outcomes' colours on light and dark pages."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LINES = ("-", "--", ":", "-.")
OUTCOMES = {"PLACE": "#2ea043", "GRASP": "#f0b429", "MISS": "#a4243b"}
"""Of three lightnesses, so that they differ in grey, too."""
TEXT = "#010203"
"""Stands for the colour of the text around the figure; `svg` replaces it."""
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none", "svg.hashsalt": "vidpara", "font.size": 9, "axes.titlesize": 9.5,
    "axes.titleweight": "bold", "axes.titlelocation": "left", "axes.spines.top": False, "axes.spines.right": False,
    "axes.edgecolor": TEXT, "axes.labelcolor": TEXT, "text.color": TEXT, "xtick.color": TEXT, "ytick.color": TEXT,
    "axes.grid": True, "grid.color": TEXT, "grid.alpha": 0.12, "grid.linewidth": 0.8, "axes.linewidth": 0.6,
    "figure.facecolor": "none", "axes.facecolor": "none", "savefig.facecolor": "none", "legend.frameon": False,
}  # fmt: skip
UNITS = {
    "pixel_error": "pixels",
    "height_error": "metres",
    "position_error": "metres",
    "position_error_90": "metres",
    "rotation_error": "degrees",
}
HIDDEN = re.compile(r"(_lr|/lr|grad_norm|samples_per_second)$")
COLUMNS, WIDTH, HEIGHT = 3, 3.3, 2.25
LETTERS = 120
"""Of one point, in an inch of a legend."""
FOLLOW = 15
Axis = Literal["steps", "minutes"]


def styles(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """A colour and a marker for each name, and another line style where the colours begin anew, by its place in the
    list: no two of 56 have the same ones.
    """
    return {name: _style(index) for index, name in enumerate(dict.fromkeys(names))}


def line_styles(recipe_of: Mapping[str, str], recipes: Sequence[str] = ()) -> dict[str, dict[str, Any]]:
    """The style of each line: its recipe's, and for a second one of a recipe another marker and line style.

    Colours go by `recipes`, all that there are, so that each keeps its own whichever of them have lines.
    """
    places = {recipe: place for place, recipe in enumerate(dict.fromkeys([*recipes, *recipe_of.values()]))}
    of_recipe = Counter()
    found = {}
    for name, recipe in recipe_of.items():
        found[name] = _style(places[recipe], of_recipe[recipe])
        of_recipe[recipe] += 1
    return found


def columns(figure: Figure, names: Iterable[str], most: int, size: float = 9) -> int:
    """How many columns, `most` at the most, a legend of these names has room for in letters of `size` points."""
    letters = figure.get_figwidth() * LETTERS / size
    return max(1, min(most, int(letters / (max(map(len, names), default=0) + 8))))


def curves(runs: Sequence[Run], axis: Axis, of_run: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Small multiples, one panel a metric, in the `styles` of the runs: training losses as lines, validation as thinner
    lines with markers.
    """
    panels = _panels(runs)
    rows = max(1, math.ceil(len(panels) / COLUMNS))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(COLUMNS * WIDTH, rows * HEIGHT + 0.4), layout="constrained")
        cells = figure.subplots(rows, COLUMNS, squeeze=False).flat
        for axes, panel in zip(cells, panels, strict=False):
            _draw_panel(axes, panel, runs, axis, of_run)
        for axes in list(figure.axes)[len(panels) :]:
            axes.set_axis_off()
        handles = [Line2D([], [], label=run.name, markersize=4, **of_run[run.name]) for run in runs]
        figure.legend(
            handles=handles, loc="outside upper left", ncols=columns(figure, [run.name for run in runs], 6)
        )
    return figure


def svg(figure: Figure) -> str:
    """The figure for a place inside an HTML page: no outer links, and text that follows the page's colour."""
    buffer = io.StringIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    drawing = buffer.getvalue()
    drawing = drawing[drawing.index("<svg") :].replace(TEXT, "currentColor")
    drawing = re.sub(r"<metadata>.*?</metadata>", "", drawing, flags=re.DOTALL)
    drawing = re.sub(r'\s(xmlns(:\w+)?)="[^"]*"', "", drawing)
    drawing = re.sub(r'font(-family)?: [^;"]*(?=[;"])', _inherit_family, drawing)
    return re.sub(r'<svg width="[^"]*" height="[^"]*"', "<svg", drawing, count=1)


def png(figure: Figure) -> bytes:
    """The figure as a file of its own, on white."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=160, facecolor="white")
    return buffer.getvalue()


def _style(place: int, line: int = 0) -> dict[str, Any]:
    """Of the recipe at this place, its first line or a further one."""
    return {
        "color": PALETTE[place % len(PALETTE)],
        "marker": MARKERS[(place + 3 * line) % len(MARKERS)],
        "linestyle": LINES[(place // len(PALETTE) + line) % len(LINES)],
    }


def _panels(runs: Sequence[Run]) -> list[str]:
    """Metric names without their prefix, the loss and its parts first."""
    names = {name for run in runs for name in run.curves if not HIDDEN.search(name)}
    short = {name.partition("/")[2] for name in names if name.startswith(("train_step/", "val/"))}
    return sorted(short, key=lambda name: (name != "loss", not name.endswith("_loss"), name))


def _draw_panel(
    axes: Axes, panel: str, runs: Sequence[Run], axis: Axis, of_run: Mapping[str, Mapping[str, Any]]
) -> None:
    drawn: list[float] = []
    for run in runs:
        style = of_run[run.name]
        if curve := run.curves.get(f"train_step/{panel}"):
            x = _along(curve, axis)
            axes.plot(x, curve.values, color=style["color"], linewidth=0.7, alpha=0.25)
            axes.plot(x, _smooth(curve.values), linewidth=1.5, **{**style, "marker": ""})
            drawn += curve.values
        if curve := run.curves.get(f"val/{panel}"):
            axes.plot(_along(curve, axis), curve.values, linewidth=0.8, markersize=4, **style)
            drawn += curve.values
    if drawn and min(drawn) > 0 and max(drawn) / min(drawn) > 30:
        axes.set_yscale("log")
    unit = f" ({UNITS[panel]})" if panel in UNITS else ""
    axes.set(
        title=panel.replace("_", " ") + unit, xlabel="step" if axis == "steps" else "training time (minutes)"
    )


def _along(curve: Curve, axis: Axis) -> Sequence[float]:
    return curve.steps if axis == "steps" else [second / 60 for second in curve.seconds]


def _smooth(values: Sequence[float]) -> list[float]:
    """Exponential moving average over some fifteenth of the curve, corrected for its start."""
    keep = max(0.0, 1 - FOLLOW / len(values))
    smooth, average, weight = [], 0.0, 0.0
    for value in values:
        average = keep * average + (1 - keep) * value
        weight = keep * weight + (1 - keep)
        smooth.append(average / weight)
    return smooth


def _inherit_family(declaration: re.Match[str]) -> str:
    """The page's font, at the figure's size."""
    size = re.search(r"[\d.]+px", declaration.group())
    return f"font-size: {size.group()}; font-family: inherit" if size else "font-family: inherit"
