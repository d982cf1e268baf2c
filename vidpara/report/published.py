"""A published cell as the figures need it: its result, and what CELL.training.json says of how it was trained."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from vidpara.evaluation.results import Results
from vidpara.report.runs import Curve, curves_of

ERROR = "val/position_error"
"""Median distance of the planned from the true points, in metres."""
SEED = "trainer.seed"


class Cell(NamedTuple):
    """One published cell: which recipe, with which swept values and test, how it did, and its trainings in order.

    `places` are the x, y (metres) at which its training demos grasped, and `machine` is what it was trained on, as far
    as they are known. A training of which nothing is known has no curves.
    """

    name: str
    recipe: str
    swept: Mapping[str, Any]
    test: str
    results: Results
    trainings: Sequence[Mapping[str, Curve]]
    places: Sequence[tuple[float, float]] = ()
    machine: str = ""


def read_trainings(file: Path) -> list[dict[str, Curve]]:
    """The curves of each training in a CELL.training.json, in the order in which they ran; none if it is missing."""
    return [
        curves_of(stage["metrics"], stage["config"], stage.get("starts", ()))
        for stage in _stages(file).values()
    ]


def read_places(file: Path) -> list[tuple[float, float]]:
    """Where the training demos of a CELL.training.json grasped; none if the file does not say."""
    return [(x, y) for x, y in _stages(file).get("train_policy", {}).get("places", ())]


def read_machine(file: Path) -> str:
    """On which processors, in which precision, as far as a CELL.training.json says."""
    starts = [start for stage in _stages(file).values() for start in stage.get("starts", ())]
    named = [
        f"{start['processor']}, {'float32' if start.get('precision') == 'no' else start.get('precision')}"
        for start in starts
        if "processor" in start
    ]
    return " and ".join(dict.fromkeys(named))


def _stages(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text()) if file.is_file() else {}
