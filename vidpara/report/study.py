"""Figures of an experiment, drawn from its committed results: success, what a setting does to it, and learning."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
from matplotlib.figure import Figure

from vidpara.evaluation.statistics import wilson
from vidpara.report import figures, maps, views
from vidpara.report.learning import known, learning
from vidpara.report.published import SEED, Cell
from vidpara.report.settings import by_setting, is_number
from vidpara.report.tabletop import Tabletop


def draw(
    cells: Sequence[Cell], table: Tabletop | None = None, recipes: Sequence[str] = ()
) -> dict[str, Figure]:
    """All figures that the cells have numbers for, by file name; maps of positions are drawn on the `table`.

    Colours go by `recipes`, all that the experiment has, so that a recipe keeps its own whichever others have finished.
    """
    drawn = {"success": success(cells)}
    for key in dict.fromkeys(key for cell in cells for key in cell.swept if key != SEED):
        if len({cell.swept.get(key) for cell in cells if is_number(cell.swept.get(key))}) > 1:
            drawn[f"by_{key.rpartition('.')[2]}"] = by_setting(cells, key, recipes)
    if any(cell.test for cell in cells):
        drawn["positions"] = positions(cells, table)
    turned = [cell for cell in cells if len(views.tilts(cell.results)) > 1]
    if turned:
        drawn["by_tilt"] = views.by_tilt(turned, recipes)
        drawn["views"] = views.view_maps([cell.results for cell in turned])
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

    A policy's tests side by side, as many policies in a row as there is room for.
    """
    tests = list(dict.fromkeys(cell.test for cell in cells))
    rows: dict[str, dict[str, Cell]] = {}
    for cell in cells:
        rows.setdefault(cell.name.removesuffix(f"-{cell.test}"), {})[cell.test] = cell
    shown = [row.get(test) for row in rows.values() for test in tests]
    return maps.start_maps(
        [cell and cell.results for cell in shown],
        [cell.places if cell else () for cell in shown],
        len(tests) * max(1, maps.COLUMNS // len(tests)),
        table,
    )
