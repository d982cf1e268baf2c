"""What a run left behind: its metrics as curves, and the last of each kind of picture."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from vidpara.cli import UserError
from vidpara.versions import STARTS


class Curve(NamedTuple):
    """One metric over a run. `seconds` is the time spent in training steps, validation apart."""

    steps: tuple[int, ...]
    seconds: tuple[float, ...]
    values: tuple[float, ...]


class Run(NamedTuple):
    """A run folder; `media` holds the newest picture or video of each name."""

    name: str
    curves: Mapping[str, Curve]
    media: Mapping[str, Path]


def read_run(folder: Path) -> Run:
    """Read `metrics.jsonl`. A last line that a killed process left unfinished is skipped.

    Raises:
        UserError: there is no such file.
    """
    file = folder / "metrics.jsonl"
    if not file.is_file():
        raise UserError(
            f"{file} does not exist; give run folders of stages/train_video.py or train_policy.py"
        )
    config = folder / "config.yaml"
    logged = list(events(file))
    media = {
        name: folder / value
        for event in logged
        for name, value in event.items()
        if isinstance(value, str) and (folder / value).is_file()
    }
    said = config.read_text() if config.is_file() else ""
    return Run(folder.name, curves_of(logged, said, list(events(folder / STARTS))), media)


def curves_of(
    events: Sequence[Mapping[str, Any]], config: str, starts: Sequence[Mapping[str, Any]] = ()
) -> dict[str, Curve]:
    """Every number in the events of a run as a curve; `config` is the run's configuration as YAML, `starts` says on how
    many processes it ran from which step on (one, if it does not).
    """
    clock = _clock(events, _samples_per_step(config), starts)
    points: dict[str, list[tuple[int, float, float]]] = defaultdict(list)
    for event in events:
        for name, value in event.items():
            if name != "step" and isinstance(value, int | float):
                points[name].append((event["step"], clock.get(event["step"], 0.0), value))
    return {name: Curve(*map(tuple, zip(*rows, strict=True))) for name, rows in points.items()}


def events(file: Path) -> Iterator[dict[str, Any]]:
    """The lines of a run's JSON lines, if there are any; one that a killed process left unfinished is skipped."""
    for line in file.read_text().splitlines() if file.is_file() else ():
        try:
            yield json.loads(line)
        except ValueError:
            continue


def _clock(
    events: Sequence[Mapping[str, Any]], samples_per_step: int, starts: Sequence[Mapping[str, Any]]
) -> dict[int, float]:
    """Training time at each logged step, added up from the logged speeds, which are those of all processes."""
    clock, seconds, before = {0: 0.0}, 0.0, 0
    for event in events:
        if speed := event.get("train_step/samples_per_second"):
            processes = [start.get("processes", 1) for start in starts if start["step"] < event["step"]]
            samples = samples_per_step * (processes[-1] if processes else 1)
            seconds += (event["step"] - before) * samples / speed
            before = event["step"]
        clock[event["step"]] = seconds
    return clock


def _samples_per_step(config: str) -> int:
    """Of one process."""
    trainer = (yaml.safe_load(config) or {}).get("trainer", {})
    return trainer.get("batch_size", 1) * trainer.get("accumulate", 1)
