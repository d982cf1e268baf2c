"""Finished cells -> `results/EXPERIMENT/`: the results, how each was trained, a table, paired tests and charts."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from vidpara.config import ReportConfig
from vidpara.evaluation import results
from vidpara.evaluation.results import Results
from vidpara.evaluation.statistics import wilson
from vidpara.experiment.execute import seconds
from vidpara.experiment.plan import Cell, Plan

KEPT = ("val/", "train/", "train_step/samples_per_second")
"""Metrics that are committed with a result; the rest stays in the run folder."""


def publish(plan: Plan) -> dict[str, Results]:
    """Copy every finished cell's result and training beside one another; returns the results by cell."""
    found = {}
    for cell in plan.cells:
        product = plan.steps[cell.steps[-1]].product
        if product.is_file():
            found[cell.name] = results.read(product)
            results.write_atomically(cell.result, product.read_bytes())
            _training(plan, cell)
    if found:
        text = "\n".join([*table(found), "", *comparisons(plan, found), ""])
        results.write_atomically(plan.experiment.results / "table.md", text.encode())
    return found


def page(plan: Plan) -> ReportConfig:
    """The page of all that is finished: `report.page.write_page` writes it."""
    experiment, steps = plan.experiment, plan.steps.values()
    timings = experiment.runs / "timings.json"
    spent = {step.name: seconds(step) for step in steps if seconds(step)}
    results.write_atomically(timings, json.dumps(spent, indent=1).encode())
    finished = [step for step in steps if step.product.exists()]
    checked = [step.product for step in finished if step.stage == "check_rollouts"]
    return ReportConfig(
        output=experiment.results / "page.html",
        title=experiment.title or experiment.name.replace("_", " "),
        baseline=plan.cells[0].name,
        results=tuple(step.product for step in finished if step.stage == "evaluate_policy"),
        runs=tuple(step.folder for step in finished if step.stage.startswith("train_")),
        pictures=(*checked, *experiment.pictures),
        timings=timings,
        notes=experiment.notes,
    )


def table(found: dict[str, Results]) -> Iterator[str]:
    """Markdown: a row a cell."""
    yield "| cell | PLACE | GRASP | MISS | 95 % interval (Wilson) |"
    yield "|---|---|---|---|---|"
    for name, result in found.items():
        place, total = result.count("PLACE"), len(result.episodes)
        low, high = wilson(place, total)
        yield (
            f"| {name} | {place}/{total} = {100 * place / total:.0f} % | {result.count('GRASP')} | "
            f"{result.count('MISS')} | {100 * low:.0f}–{100 * high:.0f} % |"
        )


def comparisons(plan: Plan, found: dict[str, Results]) -> Iterator[str]:
    """Markdown: McNemar's exact test for each declared pair whose cells are finished."""
    rows = list(_pairs(plan, found))
    if rows:
        yield "| A | B | only A | only B | p (McNemar, exact, two-sided) |"
        yield "|---|---|---|---|---|"
    for a, b in rows:
        paired = results.compare(found[a], found[b])
        yield f"| {a} | {b} | {paired.only_a} | {paired.only_b} | {paired.p_value:.2g} |"


def _pairs(plan: Plan, found: dict[str, Results]) -> Iterator[tuple[str, str]]:
    """Declared pairs of finished cells, suffix by suffix."""
    for a, b in plan.experiment.compare:
        for one, other in itertools.product(found, found):
            suffix = one.removeprefix(a)
            if one.startswith(a) and other == f"{b}{suffix}" and (not suffix or suffix.startswith("-")):
                yield one, other


def _training(plan: Plan, cell: Cell) -> None:
    """How a cell was trained: each step's resolved configuration, command and curves, in one JSON file."""
    trained = {}
    for name in cell.steps[:-1]:
        stage, folder = plan.steps[name].stage, plan.steps[name].folder
        if stage == "collect_rollouts":
            continue
        trained[stage] = {
            "config": (folder / "config.yaml").read_text(),
            "command": (folder / "command.txt").read_text().strip(),
            "metrics": list(_metrics(folder / "metrics.jsonl")),
        }
    if not trained:
        return
    path = cell.result.with_name(f"{cell.name}.training.json")
    results.write_atomically(path, json.dumps(results.portable(trained), indent=1).encode() + b"\n")


def _metrics(file: Path) -> Iterator[dict[str, Any]]:
    for line in file.read_text().splitlines() if file.is_file() else ():
        event = json.loads(line)
        kept = {key: value for key, value in event.items() if key.startswith(KEPT)}
        if kept:
            yield {"step": event["step"], **kept}


def summary(found: Sequence[Results]) -> str:
    """Lines for a terminal."""
    return "\n".join(results.summary(result) for result in found)
