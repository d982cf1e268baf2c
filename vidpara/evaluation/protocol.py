"""An evaluation as a whole: every start once, in simulator processes, resumable, with its results in one file."""

from __future__ import annotations

import functools
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
import yaml
from tqdm import tqdm

from vidpara import cli
from vidpara.cli import UserError
from vidpara.config import ControllerConfig, EvaluateConfig
from vidpara.evaluation import recording, results
from vidpara.evaluation.results import Episode, Results
from vidpara.evaluation.rollout import EpisodeResult, Outcome, run_episode
from vidpara.simulation import scene, workers
from vidpara.types import ActionChunk, EpisodeStart, Observation, Simulator

FREE = ("workers", "videos", "episodes", "output")
"""Settings that may differ when an evaluation is continued: they do not change what happens in an episode."""


@runtime_checkable
class Policy(Protocol):
    """All that an evaluation knows of a policy."""

    def act(self, observation: Observation) -> ActionChunk: ...


class Job(NamedTuple):
    """One episode to run."""

    index: int
    start: EpisodeStart
    record: bool
    controller: ControllerConfig
    max_steps: int


class Begin(NamedTuple):
    """What a simulator process tells the parent, so that a crash can be told from the episode it hit."""

    episode: int


class Look(NamedTuple):
    """What a simulator process asks the parent."""

    episode: int
    observation: Observation


def evaluate(
    policy: Policy,
    device: torch.device,
    fingerprint: str,
    config: EvaluateConfig,
    words: Sequence[str],
    make: Callable[[Any], Any] = workers.libero,
) -> Results:
    """Run the episodes that `config.output` does not hold yet, and write it once all have finished.

    Every finished episode is appended to OUTPUT.part.jsonl, so the same command goes on where it stopped. `words` are
    the command's arguments, `fingerprint` names the policy's weights, `make` builds a simulator in its process.

    Raises:
        UserError: `config.output` belongs to another configuration or other weights.
        RuntimeError: the simulator failed; the message names the episode. It never counts as a failed episode.
    """
    if config.episodes < 1:
        raise UserError(f"--episodes {config.episodes} must be at least 1")
    torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) - workers.count(config.workers)))
    starts = scene.starts(config.scene, config.episodes, config.seed)
    ledger = Ledger(config, fingerprint)
    done = ledger.read()
    videos = [recording.path(config.output, index) for index in range(min(config.videos, config.episodes))]
    unseen = {index for index, video in enumerate(videos) if index not in done or not video.exists()}
    jobs = [
        Job(index, start, index < len(videos), config.controller, config.max_steps)
        for index, start in enumerate(starts)
        if index not in done or index in unseen
    ]
    reply = functools.partial(answer, policy, device)
    finished = config.episodes - len(jobs)
    with tqdm(total=config.episodes, initial=finished, desc=config.cell, unit="episode") as bar:
        bar.set_postfix_str(_tally(done))
        clock = time.perf_counter()
        for index, found in _run(jobs, reply, config, make):
            if found.frames:
                recording.write_episode(videos[index], found)
            seconds, clock = time.perf_counter() - clock, time.perf_counter()
            episode = Episode(found.start, found.outcome, found.steps, found.looks, round(seconds, 3))
            if index not in done:
                done[index] = episode
                ledger.append(index, episode)
            elif episode.outcome != done[index].outcome:
                bar.write(
                    f"episode {index} counts as {done[index].outcome}; its recording is {episode.outcome}"
                )
            bar.update()
            bar.set_postfix_str(_tally(done))
    if unseen:
        shown: dict[Path, Outcome] = {video: done[index].outcome for index, video in enumerate(videos)}
        recording.write_grid(recording.grid_path(config.output), shown)
    return ledger.finish([done[index] for index in range(config.episodes)], words)


def answer(policy: Policy, device: torch.device, looks: Sequence[Look]) -> list[ActionChunk]:
    """Chunks for all the simulators that wait.

    On a CPU one at a time, so that a chunk does not depend, not even in its last bit, on who else happened to wait;
    on a GPU in one batch.
    """
    groups = [[look] for look in looks] if device.type == "cpu" or not looks else [looks]
    chunks: list[ActionChunk] = []
    for group in groups:
        observation = _stack([look.observation for look in group], device)
        with torch.inference_mode():
            batched = ActionChunk(*(field.float().cpu() for field in policy.act(observation)))
        chunks += [ActionChunk(*(field[i].clone() for field in batched)) for i in range(len(group))]
    return chunks


def describe(config: EvaluateConfig) -> dict[str, Any]:
    """How the episodes were run, for people."""
    place, control = config.scene, config.controller
    layout = "LIBERO's own init states" if place.layout == "original" else (
        f"clean scene, object anywhere in x {list(place.x_range)} m, y {list(place.y_range)} m, "
        + (f"target at {list(place.target_xy)} m" if place.target == "fixed" else "target anywhere on it")
        + (f", {place.distractors} distractors" if place.distractors else "")
    )  # fmt: skip
    views = f"{place.view_grid[0]} x {place.view_grid[1]} views, tilt to {place.tilt_max} degrees"
    return {
        "suite": place.suite,
        "task": place.task,
        "layout": layout,
        "starts": f"the first {config.episodes} of seed {config.seed}; {place.grid[0]} x {place.grid[1]} cells, "
        "visited in random order, uniform within a cell",
        "view": views if place.views == "sphere" else f"default view of {place.camera}",
        "max_steps": config.max_steps,
        "settle_steps": scene.SETTLE_STEPS,
        "execute": f"{control.execute} points of each chunk, {control.steps_per_point} to "
        f"{control.max_steps_per_point} control steps each, reached within {control.tolerance} m; the whole chunk "
        f"after a look since which the end effector moved less than {control.stall} m",
        "rotation": control.rotation,
        "render": f"{place.render}, {place.image_size} x {place.image_size}",
        "success": "PLACE: the task's goal predicate holds at any control step, which ends the episode (LIBERO's "
        "rule); GRASP: the object was lifted 3 cm, no more; MISS: it was not",
    }


class Ledger:
    """The finished episodes of a started evaluation: OUTPUT.part.jsonl, a header line and then one line an episode."""

    def __init__(self, config: EvaluateConfig, fingerprint: str) -> None:
        self.config, self.output, self.episodes = config, config.output, config.episodes
        self.path = config.output.with_suffix(".part.jsonl")
        self.settings: dict[str, Any] = results.portable(yaml.safe_load(cli.dump(config)))
        self.fingerprint = fingerprint

    def read(self) -> dict[int, Episode]:
        """Episodes that need not run again.

        Raises:
            UserError: they were run with another configuration or other weights.
        """
        done: dict[int, Episode] = {}
        if self.output.exists():
            finished = results.read(self.output)
            self._check(self.output, finished.config, finished.versions.get("policy", ""))
            done = dict(enumerate(finished.episodes))
        if len(done) > self.episodes:
            raise UserError(
                f"{self.output} holds {len(done)} episodes already; set --episodes {len(done)} or more"
            )
        if not self.path.exists():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            return done
        whole, _, torn = self.path.read_text().rpartition("\n")
        if torn:  # killed while appending: drop the torn line, its episode runs again
            results.write_atomically(self.path, f"{whole}\n".encode() if whole else b"")
        lines = [json.loads(line) for line in whole.splitlines()]
        if lines:
            self._check(self.path, lines[0]["config"], lines[0]["policy"])
        done |= {line.pop("index"): results.episode(line) for line in lines[1:]}
        return {index: episode for index, episode in done.items() if index < self.episodes}

    def append(self, index: int, episode: Episode) -> None:
        fresh = not self.path.exists() or not self.path.stat().st_size
        header = [{"config": self.settings, "policy": self.fingerprint}] if fresh else []
        with self.path.open("a") as file:
            for line in [*header, {"index": index, **results.plain(episode)}]:
                file.write(json.dumps(line) + "\n")

    def finish(self, episodes: Sequence[Episode], words: Sequence[str]) -> Results:
        """Write the results, unless the file holds them all already, and forget the part file."""
        if not self.output.exists() or len(results.read(self.output).episodes) < len(episodes):
            found = Results(
                cell=self.config.cell,
                episodes=tuple(episodes),
                command=results.command_line("evaluate_policy", words),
                config=self.settings,
                versions=results.versions() | {"policy": self.fingerprint},
                seed=self.config.seed,
                protocol=describe(self.config),
            )
            results.write(self.output, found)
        self.path.unlink(missing_ok=True)
        return results.read(self.output)

    def _check(self, path: Path, config: Mapping[str, Any], fingerprint: str) -> None:
        advice = "choose another --output, or remove the file"
        before, now = (dict(_flat(tree)) for tree in (config, self.settings))
        for key in sorted(before.keys() | now.keys()):
            if key.split(".")[0] not in FREE and before.get(key) != now.get(key):
                raise UserError(
                    f"{path} was made with {key} {before.get(key)}, now it is {now.get(key)}; {advice}"
                )
        if fingerprint != self.fingerprint:
            raise UserError(f"{path} was made with other weights of {self.settings['policy']}; {advice}")


def _run(
    jobs: Sequence[Job],
    reply: Callable[[Sequence[Look]], list[ActionChunk]],
    config: EvaluateConfig,
    make: Callable[[Any], Any],
) -> Iterator[tuple[int, EpisodeResult]]:
    """(index, result) of each job; a fault of the simulator names the episodes it may have hit."""
    running: set[int] = set()

    def answer_and_note(requests: list[Look | Begin]) -> list[ActionChunk | None]:
        running.update(request.episode for request in requests)
        chunks = iter(reply([request for request in requests if isinstance(request, Look)]))
        return [next(chunks) if isinstance(request, Look) else None for request in requests]

    try:
        for position, result in workers.run(
            jobs, _episode, config.scene, workers.count(config.workers), answer_and_note, make
        ):
            running.discard(jobs[position].index)
            yield jobs[position].index, result
    except RuntimeError as fault:
        where = (
            f"in episode {', '.join(map(str, sorted(running)))}" if running else "before the first episode"
        )
        what = str(fault).strip().splitlines()[-1]
        raise RuntimeError(f"a fault (not a failed episode) ended the evaluation {where}; {what}") from fault


def _episode(simulator: Simulator, job: Job, ask: Callable[[Look | Begin], Any]) -> EpisodeResult:
    ask(Begin(job.index))
    return run_episode(
        simulator,
        lambda seen: ask(Look(job.index, seen)),
        job.start,
        job.controller,
        job.max_steps,
        job.record,
    )


def _stack(observations: Sequence[Observation], device: torch.device) -> Observation:
    def batch(*fields: Any) -> Any:
        if isinstance(fields[0], torch.Tensor):
            return torch.stack(fields).to(device)
        return type(fields[0])(*(batch(*parts) for parts in zip(*fields, strict=True)))

    return batch(*observations)


def _tally(done: dict[int, Episode]) -> str:
    counts = {name: sum(e.outcome == name for e in done.values()) for name in ("PLACE", "GRASP", "MISS")}
    return " ".join(f"{name} {count}" for name, count in counts.items())


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
