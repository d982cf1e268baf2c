"""An evaluation as a whole: every start once, in simulator processes, resumable, with its results in one file."""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from tqdm import tqdm

from vidpara.cli import UserError
from vidpara.config import ControllerConfig, EvaluateConfig
from vidpara.cores import cores
from vidpara.evaluation import recording
from vidpara.evaluation.episode_log import EpisodeLog
from vidpara.evaluation.results import EpisodeRecord, Results
from vidpara.evaluation.rollout import EpisodeResult, run_episode
from vidpara.exclusive import exclusive
from vidpara.geometry.camera import turned
from vidpara.simulation import scene, workers
from vidpara.types import ActionChunk, EpisodeStart, Observation, Simulator


@runtime_checkable
class Actor(Protocol):
    """All that an evaluation knows of a policy."""

    def act(self, observation: Observation) -> ActionChunk: ...


class Job(NamedTuple):
    """One episode to run."""

    index: int
    start: EpisodeStart
    record: bool
    controller: ControllerConfig
    max_steps: int
    camera_error: float


class Begin(NamedTuple):
    """What a simulator process tells the parent, so that a crash can be told from the episode it hit."""

    episode: int


class Look(NamedTuple):
    """What a simulator process asks the parent."""

    episode: int
    observation: Observation


def evaluate(
    policy: Actor,
    device: torch.device,
    fingerprint: str,
    config: EvaluateConfig,
    words: Sequence[str],
    make: Callable[[Any], Any] = workers.libero,
    measured: Mapping[str, float] | None = None,
) -> Results:
    """Run the episodes that `config.output` does not hold yet, and write it once all have finished.

    Every finished episode is appended to OUTPUT.part.jsonl, so the same command goes on where it stopped. `words` are
    the command's arguments, `fingerprint` names the policy's weights, `make` builds a simulator in its process;
    `measured` goes into the file with the seconds that the policy took for a look.

    Raises:
        UserError: `config.output` belongs to another configuration or other weights, or is being written.
        RuntimeError: the simulator failed; the message names the episode. It never counts as a failed episode.
    """
    if config.episodes < 1:
        raise UserError(f"--episodes {config.episodes} must be at least 1")
    least, most = config.controller.steps_per_point, config.controller.max_steps_per_point
    if least > most:
        raise UserError(
            f"controller.steps_per_point {least} is more than controller.max_steps_per_point {most}; raise the latter"
        )
    if config.output.suffix != ".json":  # the recordings' folder has its name without
        raise UserError(f"--output {config.output} must end with .json")
    config = replace(config, cell=config.cell or config.output.stem)
    torch.set_num_threads(max(1, len(cores()) - workers.count(config.workers)))
    taken = f"{config.output} is being written by another evaluation; wait for it, or give another --output"
    with exclusive(config.output.with_suffix(".lock"), taken):
        return _evaluate(
            _Timed(policy, device),
            EpisodeLog(config, fingerprint, device),
            config,
            words,
            make,
            measured or {},
        )


def _evaluate(
    reply: _Timed,
    log: EpisodeLog,
    config: EvaluateConfig,
    words: Sequence[str],
    make: Callable[[Any], Any],
    measured: Mapping[str, float],
) -> Results:
    done = log.read()
    if not done:  # films of an evaluation whose results were removed
        for film in (recording.grid_path(config.output), recording.failures_path(config.output)):
            film.unlink(missing_ok=True)

    def unfilmed(indices: Sequence[int]) -> list[int]:
        return [i for i in indices if i in done and not recording.path(config.output, i).exists()]

    first = range(min(config.videos, config.episodes))
    missing = [index for index in range(config.episodes) if index not in done]
    new = sorted([*missing, *unfilmed(first)])
    _run_episodes(new, set(first), config, reply, make, done, log)
    _film(recording.grid_path(config.output), first, bool(new), config.output, done)
    failures = [
        index
        for outcome in ("MISS", "GRASP")
        for index in [i for i in sorted(done) if done[i].outcome == outcome][: config.failures]
    ]
    if again := unfilmed(failures):
        _run_episodes(again, again, config, reply, make, done, log)
    if config.failures and not failures:
        recording.failures_path(config.output).unlink(missing_ok=True)  # of an earlier evaluation
    # always anew: which episodes an earlier film shows is not known
    _film(recording.failures_path(config.output), failures, True, config.output, done)
    found = [done[index] for index in range(config.episodes)]
    return log.finish(found, words, measured)


def _film(
    target: Path, indices: Sequence[int], anew: bool, output: Path, done: Mapping[int, EpisodeRecord]
) -> None:
    """These episodes' recordings side by side, unless that film is there already and none of them is newer."""
    files = [recording.path(output, index) for index in indices]
    if files and (anew or recording.older(target, files)):
        labels = ((done[index].outcome, f"{index}:") for index in indices)
        recording.write_grid(target, [(file, *label) for file, label in zip(files, labels, strict=True)])


def _run_episodes(
    indices: Sequence[int],
    recorded: Container[int],
    config: EvaluateConfig,
    reply: _Timed,
    make: Callable[[Any], Any],
    done: dict[int, EpisodeRecord],
    log: EpisodeLog,
) -> None:
    """Run these episodes. Their outcomes go to `done` and `log`, unless they count already and are only recorded."""
    starts = scene.starts(config.scene, config.episodes, config.seed)
    jobs = [
        Job(i, starts[i], i in recorded, config.controller, config.max_steps, config.camera_error)
        for i in indices
    ]
    with tqdm(
        total=config.episodes, initial=config.episodes - len(jobs), desc=config.cell, unit="episode"
    ) as bar:
        bar.set_postfix_str(_tally(done))
        clock = time.perf_counter()
        for index, found in _run(jobs, reply, config, make):
            video = recording.path(config.output, index)
            if found.frames:
                recording.write_episode(video, found)
            else:
                video.unlink(missing_ok=True)  # of an earlier evaluation
            seconds, clock = time.perf_counter() - clock, time.perf_counter()
            episode = EpisodeRecord(
                found.start, found.outcome, found.steps, found.looks, round(seconds, 3), round(found.away, 4),
                reply.median_of(index),
            )  # fmt: skip
            if index not in done:
                done[index] = episode
                log.append(index, episode)
            elif episode.outcome != done[index].outcome:
                bar.write(
                    f"episode {index} counts as {done[index].outcome}; its recording is {episode.outcome}"
                )
            bar.update()
            bar.set_postfix_str(_tally(done))


class _Timed:
    """`answer`, with the time for which each look waited for the policy: that of its whole batch."""

    def __init__(self, policy: Actor, device: torch.device) -> None:
        self._answer, self._batched = functools.partial(answer, policy, device), device.type != "cpu"
        self._seconds: dict[int, list[float]] = {}

    def __call__(self, looks: Sequence[Look]) -> list[ActionChunk]:
        began = time.perf_counter()
        chunks = self._answer(looks)
        seconds = (time.perf_counter() - began) / (1 if self._batched else max(1, len(looks)))
        for look in looks:
            self._seconds.setdefault(look.episode, []).append(seconds)
        return chunks

    def median_of(self, episode: int) -> float | None:
        """Seconds of this episode's looks."""
        spent = self._seconds.pop(episode, None)
        return round(statistics.median(spent), 5) if spent else None


def answer(policy: Actor, device: torch.device, looks: Sequence[Look]) -> list[ActionChunk]:
    """Chunks for all the simulators that wait.

    On a CPU one at a time, so that a chunk does not depend, not even in its last bit, on who else happened to wait;
    on a GPU in one batch.
    """
    groups = [[look] for look in looks] if device.type == "cpu" or not looks else [looks]
    chunks: list[ActionChunk] = []
    for group in groups:
        observation = _stack([look.observation for look in group]).to(device)
        with torch.inference_mode():
            batched = ActionChunk(*(field.float().cpu() for field in policy.act(observation)))
        chunks += [ActionChunk(*(field[i].clone() for field in batched)) for i in range(len(group))]
    return chunks


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
        lambda seen: ask(Look(job.index, _as_told(seen, job))),
        job.start,
        job.controller,
        job.max_steps,
        job.record,
    )


def _as_told(seen: Observation, job: Job) -> Observation:
    """What the policy is told: the camera turned by `job.camera_error` degrees, in each episode about another axis."""
    if not job.camera_error:
        return seen
    axis = np.random.default_rng([job.start.seed, 3]).standard_normal(3)
    return seen._replace(camera=turned(seen.camera, axis / np.linalg.norm(axis), job.camera_error))


def _stack(observations: Sequence[Observation]) -> Observation:
    def batch(*fields: Any) -> Any:
        if isinstance(fields[0], torch.Tensor):
            return torch.stack(fields)
        return type(fields[0])(*(batch(*parts) for parts in zip(*fields, strict=True)))

    return batch(*observations)


def _tally(done: dict[int, EpisodeRecord]) -> str:
    counts = {name: sum(e.outcome == name for e in done.values()) for name in ("PLACE", "GRASP", "MISS")}
    return " ".join(f"{name} {count}" for name, count in counts.items())
