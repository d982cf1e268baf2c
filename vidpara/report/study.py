"""Figures of an experiment, drawn from its committed results: success, what a setting does to it, and learning."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vidpara.evaluation.statistics import wilson
from vidpara.report import figures, maps, views
from vidpara.report.learning import known, learning
from vidpara.report.published import ERROR, SEED, Cell
from vidpara.report.tabletop import Tabletop

LABELS = {
    "data.demos": "labelled demonstrations",
    "policy.sigma": "noise level",
    "evaluate.denoising_steps": "denoising steps",
}


def draw(
    cells: Sequence[Cell], table: Tabletop | None = None, recipes: Sequence[str] = ()
) -> dict[str, Figure]:
    """All figures that the cells have numbers for, by file name; maps of positions are drawn on the `table`.

    Colours go by `recipes`, all that the experiment has, so that a recipe keeps its own whichever others have finished.
    """
    drawn = {"success": success(cells)}
    for key in dict.fromkeys(key for cell in cells for key in cell.swept if key != SEED):
        if len({cell.swept.get(key) for cell in cells if _is_number(cell.swept.get(key))}) > 1:
            drawn[f"by_{key.rpartition('.')[2]}"] = by_setting(cells, key, recipes)
    if any(cell.test for cell in cells):
        drawn["positions"] = positions(cells, table)
    turned = [cell.results for cell in cells if len(views.tilts(cell.results)) > 1]
    if turned:
        drawn |= {"by_tilt": views.by_tilt(turned), "views": views.view_maps(turned)}
    if known(cells):
        drawn["learning"] = learning(cells, recipes)
    return drawn


def is_figure(name: str) -> bool:
    """Whether `draw` may give a figure of that name."""
    return name in ("success", "positions", "views", "learning") or name.startswith("by_")


def success(cells: Sequence[Cell]) -> Figure:
    """A bar a cell: the shares of PLACE, GRASP and MISS, with the Wilson interval of PLACE."""
    with matplotlib.rc_context(figures.STYLE):
        figure = Figure(figsize=(7.5, 0.32 * len(cells) + 1.0), layout="constrained")
        axes = figure.subplots()
        for row, cell in enumerate(cells):
            left, total = 0.0, len(cell.results.episodes)
            for outcome, color in figures.OUTCOMES.items():
                share = 100 * sum(e.outcome == outcome for e in cell.results.episodes) / total
                label = outcome if row == 0 else None
                axes.barh(row, share, left=left, color=color, height=0.7, label=label, alpha=0.85)
                left += share
            place = cell.results.count("PLACE")
            low, high = (100 * bound for bound in wilson(place, total))
            axes.plot((low, high), (row, row), color=figures.TEXT, linewidth=1.4, marker="|", markersize=7)
            axes.text(102, row, f"{place}/{total}", va="center", fontsize=8)
        axes.set(
            xlim=(0, 112), xlabel="episodes (%), with the 95 % interval of PLACE",
            yticks=range(len(cells)), yticklabels=[cell.name for cell in cells],
        )  # fmt: skip
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        figure.legend(loc="outside upper left", ncols=3)
    return figure


def positions(cells: Sequence[Cell], table: Tabletop | None = None) -> Figure:
    """Where the object stood in each episode and what came of it, over the places of the training demos.

    A row a policy, a column a test; with one test the policies follow one another.
    """
    tests = list(dict.fromkeys(cell.test for cell in cells))
    rows: dict[str, dict[str, Cell]] = {}
    for cell in cells:
        rows.setdefault(cell.name.removesuffix(f"-{cell.test}"), {})[cell.test] = cell
    shown = [row.get(test) for row in rows.values() for test in tests]
    return maps.start_maps(
        [cell and cell.results for cell in shown],
        [cell.places if cell else () for cell in shown],
        len(tests) if len(tests) > 1 else maps.COLUMNS,
        table,
    )


def by_setting(cells: Sequence[Cell], key: str, recipes: Sequence[str] = ()) -> Figure:
    """PLACE, and the plan's error, against the values of one swept setting: a line for all that agrees in the rest.

    Seeds are averaged; since they share their starts, the interval is that of one seed's episodes. A single value is a
    point.
    """
    chosen = [cell for cell in cells if _is_number(cell.swept.get(key))]
    tests = {cell.test for cell in chosen}
    lines: dict[str, dict[float, list[Cell]]] = {}
    for cell in sorted(chosen, key=lambda cell: cell.swept[key]):
        lines.setdefault(_apart_from(cell, key, tests), {}).setdefault(cell.swept[key], []).append(cell)
    styles = figures.styles([*recipes, *lines])
    with matplotlib.rc_context(figures.STYLE):
        figure = Figure(figsize=(8.0, 3.2), layout="constrained")
        place, error = figure.subplots(1, 2)
        for name, by_value in lines.items():
            style: dict[str, Any] = {**styles[name], "markersize": 4, "linewidth": 1.5}
            rates = [_rate(alike) for alike in by_value.values()]
            spread = ([rate - low for rate, low, _ in rates], [high - rate for rate, _, high in rates])
            place.errorbar(
                list(by_value), [rate for rate, _, _ in rates], spread, capsize=3, label=name, **style
            )
            errors = {
                value: _error(alike) for value, alike in by_value.items() if all(map(_has_error, alike))
            }
            error.plot(list(errors), list(errors.values()), **style)
        place.set(title="PLACE (%)", ylim=(0, 100))
        error.margins(y=0.1)
        error.set(title="plan error on held-out demos (cm)", ylim=(0, None))
        for axes in (place, error):
            _tick(axes, sorted({value for by_value in lines.values() for value in by_value}))
            axes.set(xlabel=LABELS.get(key, key))
        handles, labels = place.get_legend_handles_labels()
        columns = figures.columns(figure, lines, 5)
        figure.legend(handles, labels, loc="outside upper left", ncols=columns)
    return figure


def _apart_from(cell: Cell, key: str, tests: Collection[str]) -> str:
    """What tells a cell from others, `key` and the seed apart; the test where there are several."""
    others = {name: value for name, value in cell.swept.items() if name not in (key, SEED)}
    words = [f"{name.rpartition('.')[2]} {value}" for name, value in others.items()]
    return ", ".join([cell.recipe, *([cell.test] if len(tests) > 1 else []), *words])


def _rate(seeds: Sequence[Cell]) -> tuple[float, float, float]:
    """PLACE in percent, averaged over seeds, and the ends of its interval for the episodes of one."""
    share = sum(cell.results.count("PLACE") / len(cell.results.episodes) for cell in seeds) / len(seeds)
    total = min(len(cell.results.episodes) for cell in seeds)
    low, high = wilson(round(share * total), total)
    return 100 * share, 100 * low, 100 * high


def _error(cells: Sequence[Cell]) -> float:
    """Mean over the cells of the plan's error, in centimetres: what the evaluation measured, or the training last."""
    found = [cell.results.measured.get(ERROR) or cell.trainings[-1][ERROR].values[-1] for cell in cells]
    return sum(100 * error for error in found) / len(found)


def _has_error(cell: Cell) -> bool:
    return bool(cell.trainings) and ERROR in cell.trainings[-1]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _tick(axes: Axes, values: Sequence[float]) -> None:
    """A tick at each value; where they span a factor of four or more the axis is logarithmic."""
    if values[0] > 0 and values[-1] >= 4 * values[0]:
        axes.set_xscale("log")
    axes.set_xticks(values, [f"{value:g}" for value in values])
    axes.minorticks_off()
