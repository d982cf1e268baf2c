"""Finished cells -> `results/EXPERIMENT/`: the results, how each was trained, a table with paired tests, and a page."""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vidpara.cli import UserError
from vidpara.config import DataConfig, ReportConfig
from vidpara.data.sources import read_sources
from vidpara.data.split import split
from vidpara.evaluation import recording, results
from vidpara.evaluation.results import Results
from vidpara.experiment.execute import seconds
from vidpara.experiment.plan import Cell, Plan
from vidpara.files import write_atomically
from vidpara.report import figures, study
from vidpara.report.page import write_page
from vidpara.run_folder import read_config
from vidpara.versions import STARTS

KEPT = ("val/", "train/", "train_step/samples_per_second")
"""Metrics that are committed with a result; the rest stays in the run folder."""
PAIRED = 4
"""Episodes side by side in the film of a pair."""
INDEX, TIMINGS = "cells.json", "timings.json"


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
            if anew or not _training_file(cell).is_file():
                _training(plan, cell)
            index[cell.name] = _key(plan, cell)
    if index:
        _write(plan, INDEX, json.dumps(index, indent=1) + "\n")
    found = published(plan)
    if found:
        _write(plan, "table.md", "\n".join([*table(found), "", *comparisons(plan, found), ""]))
        studied = [_studied(cell, found[cell.name]) for cell in plan.cells if cell.name in found]
        for name, figure in study.draw(studied).items():
            write_atomically(plan.experiment.results / f"{name}.png", figures.png(figure))
        _films(plan, found)
        _timings(plan)
        page = _page(plan)
        if page.results or page.runs:  # not only published by another machine
            write_page(page)
    return found


def _studied(cell: Cell, found: Results) -> study.Cell:
    file = _training_file(cell)
    trainings, places = study.read_trainings(file), study.read_places(file)
    return study.Cell(cell.name, cell.recipe, cell.swept, cell.test, found, trainings, places)


def published(plan: Plan) -> dict[str, Results]:
    """The results of this very plan that `results/EXPERIMENT/` holds, by cell."""
    index = _index(plan)
    return {
        cell.name: results.read(cell.result)
        for cell in plan.cells
        if cell.result.is_file() and index.get(cell.name) == _key(plan, cell)
    }


def _index(plan: Plan) -> dict[str, str]:
    """{cell: the key of all that determined its published result}."""
    file = plan.experiment.results / INDEX
    return json.loads(file.read_text()) if file.is_file() else {}


def _key(plan: Plan, cell: Cell) -> str:
    return plan.steps[cell.steps[-1]].key


def _write(plan: Plan, name: str, text: str) -> None:
    write_atomically(plan.experiment.results / name, text.encode())


def _timings(plan: Plan) -> None:
    """How long each finished step ran, beside what earlier calls and other machines noted."""
    file = plan.experiment.results / TIMINGS
    before = json.loads(file.read_text()) if file.is_file() else {}
    finished = [step for step in plan.steps.values() if step.product.exists() and seconds(step)]
    spent = before | {step.name: seconds(step) for step in finished}
    _write(plan, TIMINGS, json.dumps(spent, indent=1) + "\n")


def _page(plan: Plan) -> ReportConfig:
    """The page of all that is finished."""
    experiment, steps = plan.experiment, plan.steps.values()
    finished = [step for step in steps if step.product.exists()]
    checked = [step.product for step in finished if step.stage == "check_data"]
    return ReportConfig(
        output=page_path(plan),
        title=experiment.title or experiment.name.replace("_", " "),
        baseline=plan.cells[0].name,
        results=tuple(step.product for step in finished if step.stage == "evaluate_policy"),
        runs=tuple(step.folder for step in finished if step.stage.startswith("train_")),
        pictures=(*checked, *experiment.pictures),
        timings=experiment.results / TIMINGS,
        notes=experiment.notes,
    )


def page_path(plan: Plan) -> Path:
    """Where the experiment's page is, once a cell has finished."""
    return plan.experiment.results / "page.html"


def table(found: Mapping[str, Results]) -> Iterator[str]:
    """Markdown: a row a cell; with the plan's error and the time of a look where held-out demos were asked for."""
    measured = any(study.ERROR in result.measured for result in found.values())
    titles = ["cell", "PLACE, with 95 % interval (Wilson)", "GRASP", "MISS"]
    titles += ["plan error, cm", "a look, ms"] if measured else []
    yield f"| {' | '.join(titles)} |"
    yield "|---" * len(titles) + "|"
    for name, result in found.items():
        cells = [name, results.success(result), str(result.count("GRASP")), str(result.count("MISS"))]
        if measured:
            units = ((study.ERROR, 100), (study.LOOK, 1000))
            cells += [f"{u * result.measured[key]:.1f}" if key in result.measured else "" for key, u in units]
        yield f"| {' | '.join(cells)} |"


def comparisons(plan: Plan, found: Mapping[str, Results]) -> Iterator[str]:
    """Markdown: McNemar's exact test for each declared pair whose cells are finished."""
    rows = list(_pairs(plan, found))
    if rows:
        yield "| A | B | only A | only B | p (McNemar, exact, two-sided) |"
        yield "|---|---|---|---|---|"
    for a, b in rows:
        try:
            paired = results.compare(found[a], found[b])
        except UserError as error:  # not the same starts: the other pairs are still worth their test
            yield f"| {a} | {b} | | | {error} |"
            continue
        yield f"| {a} | {b} | {paired.only_a} | {paired.only_b} | {paired.p_value:.2g} |"


def _pairs(plan: Plan, found: Mapping[str, Results]) -> Iterator[tuple[str, str]]:
    """Declared pairs of finished cells that agree in their test and in all swept values that both have."""
    finished = [cell for cell in plan.cells if cell.name in found]
    for a, b in plan.experiment.compare:
        for one, other in itertools.product(finished, finished):
            shared = one.swept.keys() & other.swept.keys()
            alike = one.test == other.test and all(one.swept[key] == other.swept[key] for key in shared)
            if (one.recipe, other.recipe) == (a, b) and alike:
                yield one.name, other.name


def _films(plan: Plan, found: Mapping[str, Results]) -> None:
    """The first recorded episodes of each compared pair, one policy above the other, as A-vs-B.mp4.

    Only with named tests: there one wants to see how the two differ.
    """
    cells = {cell.name: cell for cell in plan.cells if cell.test}
    for pair in _pairs(plan, found):
        shown = []
        for cell in (cells[name] for name in pair if name in cells):
            product, outcomes = plan.steps[cell.steps[-1]].product, found[cell.name].episodes[:PAIRED]
            shown += [(recording.path(product, i), e.outcome, cell.recipe) for i, e in enumerate(outcomes)]
        target = plan.experiment.results / f"{'-vs-'.join(pair)}.mp4"
        files = [file for file, _, _ in shown]
        if files and all(file.is_file() for file in files) and _older(target, files):
            recording.write_grid(target, shown, PAIRED)


def _older(target: Path, sources: Sequence[Path]) -> bool:
    """Whether `target` is missing or was written before one of its sources."""
    return not target.is_file() or target.stat().st_mtime < max(file.stat().st_mtime for file in sources)


def _training(plan: Plan, cell: Cell) -> None:
    """How a cell was trained: each step's configuration, command, machine and curves, in one JSON file."""
    trained = {}
    for name in cell.steps[:-1]:
        stage, folder = plan.steps[name].stage, plan.steps[name].folder
        if stage == "collect_rollouts":
            continue
        trained[stage] = {
            "config": (folder / "config.yaml").read_text(),
            "command": (folder / "command.txt").read_text().strip(),
            "starts": list(_lines(folder / STARTS)),
            "metrics": list(_metrics(folder / "metrics.jsonl")),
        }
        if stage == "train_policy":
            trained[stage]["places"] = _places(read_config(folder).data)
    if not trained:
        return
    write_atomically(_training_file(cell), json.dumps(results.portable(trained), indent=1).encode() + b"\n")


@functools.cache
def _places(config: DataConfig) -> list[list[float]]:
    """Where the training demos grasped (x, y in metres), if the rollouts are on this machine."""
    if not all(source.exists() for source in config.rollouts):
        return []
    training = split(read_sources(config), config).training
    return [[round(value, 3) for value in episode.grasp.tolist()] for episode in training]


def _training_file(cell: Cell) -> Path:
    return cell.result.with_name(f"{cell.name}.training.json")


def _lines(file: Path) -> Iterator[dict[str, Any]]:
    yield from map(json.loads, file.read_text().splitlines() if file.is_file() else ())


def _metrics(file: Path) -> Iterator[dict[str, Any]]:
    for event in _lines(file):
        kept = {key: value for key, value in event.items() if key.startswith(KEPT)}
        if kept:
            yield {"step": event["step"], **kept}
