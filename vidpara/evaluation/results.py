"""Results files: what one evaluation found, with all that is needed to repeat it."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from vidpara.cli import UserError, flatten
from vidpara.evaluation.rollout import Outcome
from vidpara.evaluation.statistics import Paired, mcnemar, wilson
from vidpara.files import write_atomically
from vidpara.types import EpisodeStart

KEYS = (
    "cell", "episodes", "place", "grasp", "miss", "wilson95", "outcomes", "command", "config", "versions", "seed",
    "protocol",
)  # fmt: skip
"""What every results file has."""
LOOK = "seconds_per_look"
"""Measured by the evaluation itself: how long the policy took for a look (median)."""
SAME = ("suite", "task", "max_steps")
"""What pairs of episodes have in common beside their starts."""
NO_MATTER = (
    "policy",
    "output",
    "cell",
    "episodes",
    "videos",
    "failures",
    "workers",
    "held_out",
    "cuda_graph",
)
"""Settings of an evaluation that do not change what a start comes to."""


class EpisodeRecord(NamedTuple):
    """One finished episode; `seconds` is the time until the evaluation had it, since the one before.

    `away` is how far (metres) the object was from its goal in the end, `look` the seconds that the policy took for a
    look (median); None in files that are older than these.
    """

    start: EpisodeStart
    outcome: Outcome
    steps: int
    looks: int
    seconds: float
    away: float | None = None
    look: float | None = None


class Made(NamedTuple):
    """What ran so many of the episodes: vidpara's commit, and the processor that the policy computed on."""

    commit: str
    processor: str
    episodes: int


class Results(NamedTuple):
    """A results file."""

    cell: str
    episodes: tuple[EpisodeRecord, ...]
    command: str
    config: Mapping[str, Any]
    versions: Mapping[str, str]
    seed: int
    protocol: Mapping[str, Any]
    measured: Mapping[str, float] = {}
    """Seconds of a look (median), and the plan's errors on held-out demos where they were asked for."""
    made: tuple[Made, ...] = ()
    """One entry, unless the evaluation went on with other code or on another machine; none in files that are older."""

    def count(self, outcome: Outcome) -> int:
        return sum(episode.outcome == outcome for episode in self.episodes)


def write(path: Path, results: Results) -> None:
    """Write a results file whole or not at all; PLACE, GRASP and MISS add up to the episodes."""
    place, total = results.count("PLACE"), len(results.episodes)
    seconds = sum(episode.seconds for episode in results.episodes)
    content = {
        "cell": results.cell,
        "episodes": total,
        "place": place,
        "grasp": results.count("GRASP"),
        "miss": results.count("MISS"),
        "wilson95": [round(bound, 4) for bound in wilson(place, total)],
        "mean_looks": round(sum(episode.looks for episode in results.episodes) / total, 2),
        "seconds": round(seconds, 1),
        "seconds_per_episode": round(seconds / total, 2),
        "measured": results.measured,
        "seed": results.seed,
        "protocol": results.protocol,
        "command": results.command,
        "config": results.config,
        "versions": results.versions,
        "made": [made._asdict() for made in results.made],
        "outcomes": [plain(episode) for episode in results.episodes],
    }
    write_atomically(path, json.dumps(content, indent=1).encode() + b"\n")


def read(path: Path) -> Results:
    """Read a results file.

    Raises:
        UserError: it is missing, not JSON, or not a results file.
    """
    if not path.is_file():
        raise UserError(f"results file {path} does not exist; stages/evaluate_policy.py writes one")
    try:
        content = json.loads(path.read_text())
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON ({error}); evaluate again to another --output") from error
    missing = [key for key in KEYS if not isinstance(content, dict) or key not in content]
    if missing:
        raise UserError(f"{path} is not a results file: it has no {', '.join(missing)}")
    names = ("cell", "command", "config", "versions", "seed", "protocol")
    try:
        found = Results(
            episodes=tuple(episode(entry) for entry in content["outcomes"]),
            measured=content.get("measured", {}),
            made=tuple(Made(**made) for made in content.get("made", ())),
            **{name: content[name] for name in names},
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path} is not a results file: {error!r}; evaluate again to another --output"
        ) from error
    if not found.episodes:
        raise UserError(f"{path} holds no episodes; evaluate again to another --output")
    return found


def compare(a: Results, b: Results) -> Paired:
    """Pair two evaluations start by start.

    Raises:
        UserError: the starts, the task or the time for it differ, so that the episodes are not pairs.
    """
    advice = "a paired test needs the same starts: evaluate both with the same --episodes, --seed and scene"
    if len(a.episodes) != len(b.episodes):
        raise UserError(
            f"'{a.cell}' has {len(a.episodes)} episodes and '{b.cell}' has {len(b.episodes)}; {advice}"
        )
    for name in SAME:
        if a.protocol.get(name) != b.protocol.get(name):
            raise UserError(
                f"{name} is {a.protocol.get(name)} for '{a.cell}' and {b.protocol.get(name)} for '{b.cell}'; {advice}"
            )
    pairs = list(zip(a.episodes, b.episodes, strict=True))
    for index, (one, other) in enumerate(pairs):
        if one.start != other.start:
            raise UserError(f"episode {index} of '{a.cell}' and of '{b.cell}' start differently; {advice}")
    placed = [(one.outcome == "PLACE", other.outcome == "PLACE") for one, other in pairs]
    only_a, only_b = placed.count((True, False)), placed.count((False, True))
    both, neither = placed.count((True, True)), placed.count((False, False))
    return Paired(both, only_a, only_b, neither, mcnemar(only_a, only_b))


def paired(a: Results, b: Results) -> bool:
    """Whether `compare` takes them."""
    try:
        compare(a, b)
    except UserError:
        return False
    return True


def judged_otherwise(a: Results, b: Results) -> list[str]:
    """Settings in which two evaluations differ and that may be why their episodes do; `compare` takes them as they are.
    Settings that an older file does not have are left out.
    """
    ours, theirs = flatten(a.config), flatten(b.config)
    return [
        f"{name}: {ours[name]} for '{a.cell}', {theirs[name]} for '{b.cell}'"
        for name in ours
        if name in theirs and ours[name] != theirs[name] and name not in NO_MATTER
    ]


def success(results: Results) -> str:
    """PLACE with its Wilson interval: 87/100 = 87 % (79–92)."""
    place, total = results.count("PLACE"), len(results.episodes)
    low, high = wilson(place, total)
    return f"{place}/{total} = {100 * place / total:.0f} % ({100 * low:.0f}–{100 * high:.0f})"


def summary(results: Results) -> str:
    """One line for a terminal."""
    return f"{results.cell}: PLACE {success(results)}, GRASP {results.count('GRASP')}, MISS {results.count('MISS')}"


def plain(episode: EpisodeRecord) -> dict[str, Any]:
    """An episode as JSON; `episode` reads it back to an equal value."""
    return {**episode._asdict(), "start": episode.start._asdict()}


def episode(entry: Mapping[str, Any]) -> EpisodeRecord:
    """Inverse of `plain`."""
    start = entry["start"]
    objects = tuple((name, x, y) for name, x, y in start["objects"])
    azimuth, tilt = start["view"]
    looks, seconds = entry.get("looks", 0), entry.get("seconds", 0.0)
    return EpisodeRecord(
        EpisodeStart(start["seed"], objects, (azimuth, tilt)),
        entry["outcome"],
        entry["steps"],
        looks,
        seconds,
        entry.get("away"),
        entry.get("look"),
    )


def fingerprint(module: nn.Module) -> str:
    """Short digest of a module's weights and buffers, whatever device they are on."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def portable(value: Any) -> Any:
    """The same words or settings without paths of this machine: below the working directory they become relative."""
    if isinstance(value, Mapping):
        return {key: portable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [portable(item) for item in value]
    if not isinstance(value, str):
        return value
    flag, equals, word = value.rpartition("=")
    path = Path(word)
    if not path.is_absolute():
        return value
    here = Path.cwd()
    return (
        flag + equals + str(path.relative_to(here) if path.is_relative_to(here) else Path("...", path.name))
    )


def command_line(stage: str, words: Sequence[str]) -> str:
    """The command to type in the repository's root."""
    return shlex.join(["python", f"stages/{stage}.py", *portable(words)])
