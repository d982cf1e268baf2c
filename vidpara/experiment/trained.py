"""How a cell was trained, a JSON file beside its result: each step's configuration, command, machine and curves."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vidpara.config import DataConfig, TrainPolicyConfig
from vidpara.data.sources import read_sources
from vidpara.data.split import split
from vidpara.evaluation import results
from vidpara.experiment.plan import Cell, Plan
from vidpara.files import write_atomically
from vidpara.report.runs import events
from vidpara.report.tabletop import Tabletop, tabletop
from vidpara.run_config import read_config
from vidpara.versions import STARTS

KEPT = ("val/", "train/", "train_step/samples_per_second")
"""Metrics that are committed with a result; the rest stays in the run folder."""


def file_of(cell: Cell) -> Path:
    return cell.result.with_name(f"{cell.name}.training.json")


def write(plan: Plan, cell: Cell) -> None:
    """The file of a cell: its trainings in order. Without the policy's run folder nothing is written.

    A stage one that the policy's configuration names stands there also where no step made it, or its run folder is
    elsewhere: then with what is known of it, which may be nothing.
    """
    trained: dict[str, Any] = {}
    for name in cell.steps[:-1]:
        stage, folder = plan.steps[name].stage, plan.steps[name].folder
        if not stage.startswith("train_") or not (folder / "config.yaml").is_file():
            continue
        if stage == "train_policy":
            config = read_config(folder)
            if config.video_run and "train_video" not in trained:
                trained["train_video"] = _training(config.video_run)
            trained[stage] = {**_training(folder), "places": places(config)}
        else:
            trained[stage] = _training(folder)
    if "train_policy" in trained:
        _put(cell, trained)


def add_places(plan: Plan, cell: Cell) -> None:
    """Where the training demos grasped, if that could not be said before and the rollouts are here now."""
    trained = json.loads(file_of(cell).read_text()) if file_of(cell).is_file() else {}
    policy = trained.get("train_policy")
    steps = [plan.steps[name] for name in cell.steps]
    folders = [step.folder for step in steps if step.stage == "train_policy"]
    if not policy or policy.get("places") or not folders or not (folders[0] / "config.yaml").is_file():
        return
    if found := places(read_config(folders[0])):
        policy["places"] = found
        _put(cell, trained)


def places(config: TrainPolicyConfig) -> list[list[float]]:
    """Where the training demos grasped (x, y in metres), if the rollouts are on this machine."""
    return _places(config.data, config.trainer.seed)


def tabletop_of(plan: Plan) -> Tabletop | None:
    """The table that the training demos show, if a policy's configuration and its rollouts are on this machine."""
    folders = [step.folder for step in plan.steps.values() if step.stage == "train_policy"]
    configs = (read_config(folder).data for folder in folders if (folder / "config.yaml").is_file())
    here = next((data for data in configs if all(source.exists() for source in data.rollouts)), None)
    return tabletop(read_sources(here)) if here else None


@functools.cache
def _places(config: DataConfig, seed: int) -> list[list[float]]:
    if not all(source.exists() for source in config.rollouts):
        return []
    training = split(read_sources(config), config, seed).training
    return [[round(value, 3) for value in episode.grasp.tolist()] for episode in training]


def _training(folder: Path) -> dict[str, Any]:
    def text(name: str) -> str:
        return (folder / name).read_text() if (folder / name).is_file() else ""

    return {
        "config": text("config.yaml"),
        "command": text("command.txt").strip(),
        "starts": list(events(folder / STARTS)),
        "metrics": list(_metrics(folder / "metrics.jsonl")),
    }


def _put(cell: Cell, trained: dict[str, Any]) -> None:
    write_atomically(file_of(cell), json.dumps(results.portable(trained), indent=1).encode() + b"\n")


def _metrics(file: Path) -> Iterator[dict[str, Any]]:
    for event in events(file):
        kept = {key: value for key, value in event.items() if key.startswith(KEPT)}
        if kept:
            yield {"step": event["step"], **kept}
