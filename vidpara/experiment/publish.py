"""Finished cells -> `results/EXPERIMENT/`: the results, how each was trained, a table with paired tests, and a page."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure

from vidpara.config import ReportConfig
from vidpara.evaluation import recording, results
from vidpara.evaluation.results import Results
from vidpara.experiment import tables, trained
from vidpara.experiment.execute import seconds
from vidpara.experiment.plan import Cell, Plan
from vidpara.files import write_atomically
from vidpara.report import figures, study
from vidpara.report.page import write_page
from vidpara.report.published import Cell as Published
from vidpara.report.published import read_machine, read_places, read_trainings
from vidpara.report.tabletop import Tabletop, encoded, read

PAIRED = 4
"""Episodes side by side in the film of a pair."""
INDEX, TIMINGS, TABLETOP = "cells.json", "timings.json", "tabletop.png"


def publish(plan: Plan) -> dict[str, Results]:
    """Copy every finished cell's result, film and training beside one another; write table, figures and page of them.

    Returns the results by cell, with those that an earlier call or another machine published.
    """
    index = _index(plan)
    for cell in plan.cells:
        product = plan.steps[cell.steps[-1]].product
        if product.is_file():
            write_atomically(cell.result, product.read_bytes())
            anew = index.get(cell.name) != _key(plan, cell)
            for film, ending in (
                (recording.grid_path(product), ".mp4"), (recording.failures_path(product), ".failures.mp4")
            ):  # fmt: skip
                published_film = cell.result.with_suffix(ending)
                if film.is_file():
                    write_atomically(published_film, film.read_bytes())
                elif anew:  # of another policy
                    published_film.unlink(missing_ok=True)
            if anew:
                trained.file_of(cell).unlink(missing_ok=True)  # of another training
            if not trained.file_of(cell).is_file():
                trained.write(plan, cell)
            else:
                trained.add_places(plan, cell)
            index[cell.name] = _key(plan, cell)
    _write_index(plan, index)
    found = _found(plan, index)
    if found:
        _write(plan, "table.md", tables.markdown(plan, found))
        studied = [_studied(cell, found[cell.name]) for cell in plan.cells if cell.name in found]
        _figures(plan, study.draw(studied, _tabletop(plan), list(plan.experiment.cells)))
        _write_index(plan, index | _films(plan, found, index))
        _timings(plan)
        page = _page(plan, found)
        if page.runs or set(page.results) - {cell.result for cell in plan.cells}:
            write_page(page)  # otherwise another machine published all
    return found


def _figures(plan: Plan, drawn: Mapping[str, Figure]) -> None:
    """Write the figures, and remove those of an earlier plan that this one has no numbers for."""
    for file in plan.experiment.results.glob("*.png"):
        if study.is_figure(file.stem) and file.stem not in drawn:
            file.unlink()
    for name, figure in drawn.items():
        write_atomically(plan.experiment.results / f"{name}.png", figures.png(figure))


def _tabletop(plan: Plan) -> Tabletop | None:
    """The picture that maps of positions are drawn on, made where these rollouts are."""
    file = plan.experiment.results / TABLETOP
    before, rollouts = read(file), plan.steps.get("rollouts")
    key = rollouts.key if rollouts else ""
    anew = before is None or before.key != key
    if plan.experiment.tests and anew and (found := trained.tabletop_of(plan)):
        write_atomically(file, encoded(found._replace(key=key)))
        return found
    return before


def _studied(cell: Cell, found: Results) -> Published:
    file = trained.file_of(cell)
    return Published(
        cell.name,
        cell.recipe,
        cell.swept,
        cell.test,
        found,
        read_trainings(file),
        read_places(file),
        read_machine(file),
    )


def published(plan: Plan) -> dict[str, Results]:
    """The results of this very plan that `results/EXPERIMENT/` holds, by cell."""
    return _found(plan, _index(plan))


def _found(plan: Plan, index: Mapping[str, str]) -> dict[str, Results]:
    return {
        cell.name: results.read(cell.result)
        for cell in plan.cells
        if cell.result.is_file() and index.get(cell.name) == _key(plan, cell)
    }


def _index(plan: Plan) -> dict[str, str]:
    """{cell: the key of all that determined its published result}, and {film of a pair: both keys}."""
    file = plan.experiment.results / INDEX
    return json.loads(file.read_text()) if file.is_file() else {}


def _write_index(plan: Plan, index: Mapping[str, str]) -> None:
    if index:
        _write(plan, INDEX, json.dumps(index, indent=1) + "\n")


def _key(plan: Plan, cell: Cell) -> str:
    return plan.steps[cell.steps[-1]].key


def _write(plan: Plan, name: str, text: str) -> None:
    write_atomically(plan.experiment.results / name, text.encode())


def _timings(plan: Plan) -> None:
    """How long each finished step ran, beside what earlier calls and other machines noted."""
    file = plan.experiment.results / TIMINGS
    before = json.loads(file.read_text()) if file.is_file() else {}
    finished = [step for step in plan.steps.values() if step.product.exists() and seconds(step)]
    spent = {name: took for name, took in before.items() if name in plan.steps}
    spent |= {step.name: seconds(step) for step in finished}
    _write(plan, TIMINGS, json.dumps(spent, indent=1) + "\n")


def _page(plan: Plan, found: Mapping[str, Results]) -> ReportConfig:
    """The page of all that is finished here, and of what another machine published."""
    experiment, steps = plan.experiment, plan.steps.values()
    finished = [step for step in steps if step.product.exists()]
    checked = [step.product.with_name("sheet.png") for step in finished if step.stage == "check_data"]
    cells = [cell for cell in plan.cells if cell.name in found]
    here = [plan.steps[cell.steps[-1]].product for cell in cells]
    return ReportConfig(
        output=page_path(plan),
        title=experiment.title or experiment.name.replace("_", " "),
        baseline=cells[0].name,
        results=tuple(
            file if file.is_file() else cell.result for file, cell in zip(here, cells, strict=True)
        ),
        runs=tuple(step.folder for step in finished if step.stage.startswith("train_")),
        pictures=(*checked, *experiment.pictures),
        timings=experiment.results / TIMINGS,
        notes=experiment.notes,
    )


def page_path(plan: Plan) -> Path:
    """Where the experiment's page is, once a cell has finished."""
    return plan.experiment.results / "page.html"


def _films(plan: Plan, found: Mapping[str, Results], index: Mapping[str, str]) -> dict[str, str]:
    """The first recorded episodes of each compared pair, one policy above the other, as A-vs-B.mp4: {name: both keys}.

    Only with named tests: there one wants to see how the two differ. A film of other policies than the results' goes.
    """
    made: dict[str, str] = {}
    cells = {cell.name: cell for cell in plan.cells if cell.test}
    for pair in plan.pairs:
        if not found.keys() >= set(pair):
            continue
        shown = []
        both = [cells[name] for name in pair if name in cells]
        for cell in both:
            product, outcomes = plan.steps[cell.steps[-1]].product, found[cell.name].episodes[:PAIRED]
            label = cell.recipe if len({each.recipe for each in both}) > 1 else cell.name
            shown += [(recording.path(product, i), e.outcome, label) for i, e in enumerate(outcomes)]
        name, keys = "-vs-".join(pair), " ".join(_key(plan, cell) for cell in both)
        target = plan.experiment.results / f"{name}.mp4"
        files, others = [file for file, _, _ in shown], index.get(name, keys) != keys
        if files and all(file.is_file() for file in files):
            if others or recording.older(target, files):
                recording.write_grid(target, shown, PAIRED)
        elif others:
            target.unlink(missing_ok=True)
        if target.is_file():
            made[name] = keys
    return made
