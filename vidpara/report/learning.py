"""Learning curves of a study: the plan's error against all steps, and against the time that they took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from vidpara.report import figures
from vidpara.report.published import ERROR, SEED, Cell
from vidpara.report.runs import Curve

FILLS = ("full", "none", "left", "right", "top", "bottom")
"""Of the marker, one a seed."""


def known(cells: Sequence[Cell]) -> list[Cell]:
    """The cells whose whole training is known, and more of it than its end; of several tests of a policy the first."""
    return [
        cell
        for cell in cells
        if cell.test == cells[0].test
        and cell.trainings
        and all(cell.trainings)
        and ERROR in cell.trainings[-1]
        and len(cell.trainings[-1][ERROR].values) > 1
    ]


def learning(cells: Sequence[Cell], recipes: Sequence[str] = ()) -> Figure:
    """The plan's error while the policies trained, against all steps and all training time, stage one included.

    A colour and a marker a recipe, a line style for each of the swept values and a filling of the marker for each seed,
    the same ones for all recipes. Times are compared on one machine: each has a panel of its own.
    """
    chosen = known(cells)
    styles = figures.styles([*recipes, *(cell.recipe for cell in chosen)])
    included = ", stage one included" if any(len(cell.trainings) > 1 for cell in chosen) else ""
    lines, fills = _lines(chosen), _fills(chosen)
    machines = list(dict.fromkeys(cell.machine for cell in chosen))
    with matplotlib.rc_context(figures.STYLE):
        figure = Figure(figsize=(4.5 * (1 + len(machines)), 3.8), layout="constrained")
        panels = figure.subplots(1, 1 + len(machines), sharey=True)
        for cell in chosen:
            curve = cell.trainings[-1][ERROR]
            steps, seconds = _before(cell.trainings[:-1])
            centimetres = [100 * value for value in curve.values]
            style = {
                **styles[cell.recipe], "linestyle": lines[cell.name], "fillstyle": fills[cell.swept.get(SEED)],
                "markerfacecoloralt": "white", "linewidth": 1.3, "markersize": 4.5,
            }  # fmt: skip
            panels[0].plot([steps + step for step in curve.steps], centimetres, label=cell.name, **style)
            minutes = [(seconds + second) / 60 for second in curve.seconds]
            panels[1 + machines.index(cell.machine)].plot(minutes, centimetres, **style)
        panels[0].set(title="plan error on held-out demos (cm)", xlabel=f"steps{included}")
        panels[0].set_ylim(0, 1.05 * panels[0].get_ylim()[1])
        for axes, machine in zip(panels[1:], machines, strict=True):
            axes.set(title=machine or "machine not recorded", xlabel=f"training time (minutes){included}")
        for axes in panels:
            axes.set_xlim(0, None)
        columns = figures.columns(figure, [cell.name for cell in chosen], len(chosen), size=8)
        figure.legend(loc="outside lower center", ncols=columns, fontsize=8)
    return figure


def _before(trainings: Sequence[Mapping[str, Curve]]) -> tuple[int, float]:
    """Steps and seconds of the trainings that a policy's own began from."""
    ends = [
        max((curve.steps[-1], curve.seconds[-1]) for curve in curves.values())
        for curves in trainings
        if curves
    ]
    return sum(step for step, _ in ends), sum(second for _, second in ends)


def _lines(cells: Sequence[Cell]) -> dict[str, str]:
    """A line style for each cell: the same for the same values of the same settings, the seed apart."""
    values: dict[tuple[str, ...], dict[str, int]] = {}
    found = {}
    for cell in cells:
        swept = {key: value for key, value in cell.swept.items() if key != SEED}
        numbers = values.setdefault(tuple(swept), {})
        index = numbers.setdefault(str(list(swept.values())), len(numbers))
        found[cell.name] = figures.LINES[index % len(figures.LINES)]
    return found


def _fills(cells: Sequence[Cell]) -> dict[Any, str]:
    """How the markers of each seed are filled."""
    seeds = dict.fromkeys(cell.swept.get(SEED) for cell in cells)
    return {seed: FILLS[index % len(FILLS)] for index, seed in enumerate(seeds)}
