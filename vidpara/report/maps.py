"""Maps of positions: the table from above, where the object stood, what came of it, and where demos grasped."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from vidpara.evaluation.results import Results
from vidpara.report import figures
from vidpara.report.tabletop import Tabletop

COLUMNS = 4
TITLE = 27
"""Letters in a line above a map."""
MARKS: dict[str, dict[str, Any]] = {
    "PLACE": {"marker": "o", "s": 28, "linewidths": 0},
    "GRASP": {"marker": "o", "s": 22, "facecolors": "white", "linewidths": 1.5},
    "MISS": {"marker": "x", "s": 22, "linewidths": 1.4},
}
"""A shape an outcome: filled dot, hollow dot, cross."""
DEMO: dict[str, Any] = {"color": figures.TEXT, "alpha": 0.3}
WIDTH, ABOVE = 2.4, 0.45
"""Inches of a map, and of what stands above it."""
UNKNOWN = "training demos not recorded"


def start_maps(
    results: Sequence[Results | None],
    trained: Sequence[Sequence[tuple[float, float]]] = (),
    columns: int = COLUMNS,
    table: Tabletop | None = None,
) -> Figure:
    """The table from above, one panel a policy: where the object stood, as the mark of what came of it; None leaves a
    panel empty.

    `trained` are, for each panel, the places (x, y in metres) at which its training demos grasped, and a panel without
    any says that they are not known; `table` is the picture below them.
    """
    columns = min(columns, len(results))
    rows = math.ceil(len(results) / columns)
    with matplotlib.rc_context(figures.STYLE):
        height = rows * (WIDTH * _ratio(results, trained) + ABOVE) + 1
        figure = Figure(figsize=(max(2, columns) * (WIDTH + 0.2) + 0.6, height), layout="constrained")
        panels = list(figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).flat)
        shown = [found is not None for found in results] + [False] * (len(panels) - len(results))
        for axes, found, grasps in zip(panels, results, trained or [()] * len(results), strict=False):
            if found is not None:
                _draw(axes, found, grasps, UNKNOWN if trained and not grasps else "")
        for number, axes in enumerate(panels):
            axes.set_axis_on() if shown[number] else axes.set_axis_off()
            _label(axes, shown, number, columns)
        _frame([axes for axes, there in zip(panels, shown, strict=True) if there], table)
        figure.legend(handles=_handles(any(trained)), loc="outside upper left", ncols=4)
    return figure


def _ratio(results: Sequence[Results | None], trained: Sequence[Sequence[tuple[float, float]]]) -> float:
    """How high all maps are for their width."""
    starts = [e.start for found in results if found for e in found.episodes if e.start.objects]
    places = [start.objects[0][1:] for start in starts] + [place for grasps in trained for place in grasps]
    if len(set(places)) < 2:
        return 0.8
    (low, high), (left, right) = ((min(along), max(along)) for along in zip(*places, strict=True))
    return min(1.2, max(0.4, (high - low) / max(right - left, 1e-6)))


def _draw(axes: Axes, found: Results, grasps: Sequence[tuple[float, float]], note: str) -> None:
    axes.set_aspect("equal")
    axes.set_title(textwrap.fill(found.cell, TITLE), pad=16 if note else 5)
    axes.annotate(note, (0, 1), (0, 4), xycoords="axes fraction", textcoords="offset points", size=8)
    if grasps:
        x, y = zip(*grasps, strict=True)
        axes.scatter(y, x, s=9, linewidths=0, **DEMO)
    for outcome, color in figures.OUTCOMES.items():
        placed = [e.start.objects[0][1:] for e in found.episodes if e.outcome == outcome and e.start.objects]
        if placed:  # LIBERO's own starts do not say where
            x, y = zip(*placed, strict=True)
            axes.scatter(y, x, color=color, label=outcome, **MARKS[outcome])


def _label(axes: Axes, shown: Sequence[bool], number: int, columns: int) -> None:
    """Numbers and names of the axes where no panel below or to the left has them."""
    below = number + columns < len(shown) and shown[number + columns]
    left = number % columns > 0 and shown[number - 1]
    axes.tick_params(labelbottom=not below, labelleft=not left)
    axes.set(xlabel="" if below else "y (metres)", ylabel="" if left else "x (metres)")


def _frame(panels: Sequence[Axes], table: Tabletop | None) -> None:
    """The same range for all, that of the dots, and the picture of the table below them."""
    across, along = panels[0].get_xlim(), panels[0].get_ylim()
    if table:
        extent = (table.low[1], table.high[1], table.high[0], table.low[0])
        for axes in panels:
            axes.imshow(table.image, extent=extent, alpha=0.7, zorder=0)
            axes.grid(visible=False)
    # as the camera sees it: the robot, at small x, is at the top
    panels[0].set(xlim=across, ylim=(max(along), min(along)))


def _handles(demos: bool) -> list[Line2D]:
    dots = [
        Line2D(
            [], [], color=color, marker=MARKS[outcome]["marker"], linestyle="", label=outcome, markersize=5,
            markerfacecolor=MARKS[outcome].get("facecolors", color), markeredgewidth=MARKS[outcome]["linewidths"],
        )
        for outcome, color in figures.OUTCOMES.items()
    ]  # fmt: skip
    if demos:
        dots.append(Line2D([], [], marker=".", linestyle="", label="grasp of a training demo", **DEMO))
    return dots
