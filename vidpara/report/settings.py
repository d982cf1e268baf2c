"""What the value of a setting does: a point a training with its interval, and a line through the means."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from vidpara.evaluation.results import Results
from vidpara.evaluation.statistics import wilson
from vidpara.report import figures
from vidpara.report.published import ERROR, SEED, Cell

LABELS = {
    "data.demos": "labelled demonstrations",
    "policy.sigma": "noise level",
    "evaluate.denoising_steps": "denoising steps",
}
ASIDE, ROOM = 0.06, 0.6
"""Of the smallest gap between two values: between two points that stand side by side, and all of them at the most."""
FEWER = "fewer starts than the others"


class Point(NamedTuple):
    """One training: its height and the ends of its interval, and whether it was judged on fewer starts than others."""

    height: float
    low: float
    high: float
    fewer: bool = False


Lines = Mapping[str, Mapping[float, Sequence[Point]]]
"""{line: {value of the setting: a point a training}}."""


def by_setting(cells: Sequence[Cell], key: str, recipes: Sequence[str] = ()) -> Figure:
    """PLACE, and the plan's error, against the values of one swept setting: a line for all that agrees in the rest.

    Seeds are points of one line. Error bars are those of a training's episodes.
    """
    chosen = [cell for cell in cells if is_number(cell.swept.get(key))]
    tests = {cell.test for cell in chosen}
    starts = {t: max(len(cell.results.episodes) for cell in chosen if cell.test == t) for t in tests}
    place: dict[str, dict[float, list[Point]]] = {}
    error: dict[str, dict[float, list[Point]]] = {}
    recipe_of: dict[str, str] = {}
    for cell in chosen:
        name, value = _apart_from(cell, chosen, key), cell.swept[key]
        recipe_of[name] = cell.recipe
        place.setdefault(name, {}).setdefault(value, []).append(success(cell.results, starts[cell.test]))
        error.setdefault(name, {}).setdefault(value, []).extend(_error(cell))
    styles = figures.line_styles(recipe_of, recipes)
    with matplotlib.rc_context(figures.STYLE):
        figure = Figure(figsize=(9.0, 3.6), layout="constrained")
        left, right = figure.subplots(1, 2)
        draw(left, place, styles)
        draw(right, error, styles)
        left.set(title="PLACE (%)", ylim=(0, 100))
        right.margins(y=0.1)
        right.set(title="plan error on held-out demos (cm)", ylim=(0, None))
        for axes in (left, right):
            axes.set_xlabel(LABELS.get(key, key))
        shown = handles(place, styles)
        columns = figures.columns(figure, [str(handle.get_label()) for handle in shown], 5)
        figure.legend(handles=shown, loc="outside upper left", ncols=columns)
    return figure


def success(found: Results, starts: int) -> Point:
    """PLACE in percent with Wilson's interval; hollow where there are fewer episodes than `starts`."""
    place, total = found.count("PLACE"), len(found.episodes)
    low, high = wilson(place, total)
    return Point(100 * place / total, 100 * low, 100 * high, total < starts)


def draw(axes: Axes, lines: Lines, styles: Mapping[str, Mapping[str, Any]]) -> None:
    """Trainings of one value side by side, hollow where they had fewer starts; a line goes through the means and breaks
    where nothing was run.
    """
    values = sorted({value for by_value in lines.values() for value in by_value})
    places = _side_by_side(lines, values)
    for name, by_value in lines.items():
        style, color = styles[name], styles[name]["color"]
        points = [by_value.get(value, ()) for value in values]
        along = [_mean(places[name, value]) for value in values]
        means = [_mean([point.height for point in those]) for those in points]
        axes.plot(along, means, color=color, linestyle=style["linestyle"], linewidth=1.3, label=name)
        for value, those in zip(values, points, strict=True):
            for x, point in zip(places[name, value], those, strict=True):
                spread = [[point.height - point.low], [point.high - point.height]]
                axes.errorbar(
                    x, point.height, spread, color=color, marker=style["marker"], markersize=4.5, linestyle="",
                    capsize=2 if any(map(any, spread)) else 0, elinewidth=0.8, clip_on=False,
                    markerfacecolor="white" if point.fewer else color,
                )  # fmt: skip
    if _is_logarithmic(values):
        axes.set_xscale("log")
    axes.set_xticks(values, [f"{value:g}" for value in values])
    axes.minorticks_off()


def handles(lines: Lines, styles: Mapping[str, Mapping[str, Any]]) -> list[Line2D]:
    """The entries of a legend, one that says what hollow points are if there are any."""
    found = [Line2D([], [], markersize=4.5, linewidth=1.3, label=name, **styles[name]) for name in lines]
    if any(point.fewer for by_value in lines.values() for those in by_value.values() for point in those):
        hollow = {"marker": "o", "markersize": 4.5, "markerfacecolor": "white", "color": figures.TEXT}
        found.append(Line2D([], [], linestyle="", label=FEWER, **hollow))
    return found


def is_number(value: Any) -> bool:
    """Whether a swept value has a place on an axis."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _side_by_side(lines: Lines, values: Sequence[float]) -> dict[tuple[str, float], list[float]]:
    """Where the points of each line at each value stand: around the value, so that none hides another's interval."""
    forth, back = (math.log, math.exp) if _is_logarithmic(values) else (float, float)
    counts = {value: sum(len(by_value.get(value, ())) for by_value in lines.values()) for value in values}
    gap = min(np.diff([forth(value) for value in values]), default=1.0)
    step = gap * min(ASIDE, ROOM / max(1, *counts.values()))
    found: dict[tuple[str, float], list[float]] = {}
    for value, count in counts.items():
        free = iter(back(forth(value) + step * (place - (count - 1) / 2)) for place in range(count))
        for name, by_value in lines.items():
            found[name, value] = [next(free) for _ in by_value.get(value, ())]
    return found


def _mean(numbers: Sequence[float]) -> float:
    return sum(numbers) / len(numbers) if numbers else math.nan


def _is_logarithmic(values: Sequence[float]) -> bool:
    """Where values span a factor of four or more."""
    return values[0] > 0 and values[-1] >= 4 * values[0]


def _apart_from(cell: Cell, cells: Sequence[Cell], key: str) -> str:
    """What tells a cell from the others, `key` and the seed apart."""
    test = [cell.test] if any(other.test != cell.test for other in cells) else []
    words = [
        f"{name.rpartition('.')[2]} {value}"
        for name, value in cell.swept.items()
        if name not in (key, SEED) and any(other.swept.get(name) != value for other in cells)
    ]
    return ", ".join([cell.recipe, *test, *words])


def _error(cell: Cell) -> list[Point]:
    """The plan's error in centimetres, if it is known: what the evaluation measured, or the training last."""
    measured = cell.results.measured.get(ERROR)
    if measured is None and cell.trainings and ERROR in cell.trainings[-1]:
        measured = cell.trainings[-1][ERROR].values[-1]
    return [] if measured is None else [Point(*[100 * measured] * 3)]
