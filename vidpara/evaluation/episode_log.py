"""The finished episodes of an evaluation that has not ended, and the results file that they become."""

from __future__ import annotations

import json
import statistics
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml

from vidpara import cli
from vidpara.cli import UserError
from vidpara.config import EvaluateConfig
from vidpara.config.groups import HOW
from vidpara.evaluation import results
from vidpara.evaluation.results import LOOK, EpisodeRecord, Made, Results
from vidpara.files import write_atomically
from vidpara.simulation import scene
from vidpara.versions import processor, versions

EXTENT = {"episodes", "held_out"}
"""Settings that may differ beside those of `HOW` when an evaluation is continued: they change no episode. To an
experiment one with others is another evaluation."""


class EpisodeLog:
    """The finished episodes of a started evaluation: OUTPUT.part.jsonl, one line an episode, and before those of each
    command a header that says what they were run with.
    """

    def __init__(self, config: EvaluateConfig, fingerprint: str, device: torch.device) -> None:
        self.config, self.output, self.episodes = config, config.output, config.episodes
        self.path = config.output.with_suffix(".part.jsonl")
        self.settings: dict[str, Any] = results.portable(yaml.safe_load(cli.dump(config)))
        self.fingerprint, self.versions = fingerprint, versions()
        self.here = (self.versions["commit"], processor(device))
        self.made: dict[int, tuple[str, str]] = {}
        """Commit and processor of each known episode."""
        self._headed = False

    def read(self) -> dict[int, EpisodeRecord]:
        """Episodes that need not run again.

        Raises:
            UserError: they were run with another configuration or other weights.
        """
        done: dict[int, EpisodeRecord] = {}
        if self.output.exists():
            finished = results.read(self.output)
            self._check(self.output, finished.config, finished.versions.get("policy", ""))
            done = dict(enumerate(finished.episodes))
            made = finished.made or (Made(finished.versions.get("commit", ""), "", len(done)),)
            self.made = dict(enumerate((by.commit, by.processor) for by in made for _ in range(by.episodes)))
        if len(done) > self.episodes:
            raise UserError(
                f"{self.output} holds {len(done)} episodes already; set --episodes {len(done)} or more"
            )
        if not self.path.exists():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._say_who_else(len(done))
            return done
        whole, _, torn = self.path.read_text().rpartition("\n")
        if torn:  # killed while appending: drop the torn line, its episode runs again
            write_atomically(self.path, f"{whole}\n".encode() if whole else b"")
        by = ("", "")
        for line in map(json.loads, whole.splitlines()):
            if "config" in line:
                self._check(self.path, line["config"], line["policy"])
                by = (line.get("commit", ""), line.get("processor", ""))
            else:
                index = line.pop("index")
                done[index], self.made[index] = results.episode(line), by
        if (last := max(done, default=0)) >= self.episodes:
            raise UserError(
                f"{self.path} holds finished episodes up to number {last}; set --episodes {last + 1} or more, or "
                "remove the file"
            )
        self._say_who_else(len(done))
        return done

    def _say_who_else(self, done: int) -> None:
        """If more is to come, who ran what is there: other code, another machine."""
        here = " on ".join(self.here)
        others = Counter(by for by in self.made.values() if by != self.here and done < self.episodes)
        for (commit, machine), count in others.items():
            by = f"{commit or 'an unknown commit'} on {machine or 'an unknown machine'}"
            print(f"{count} episodes are finished, by {by}; those that follow are by {here}", file=sys.stderr)

    def append(self, index: int, episode: EpisodeRecord) -> None:
        commit, machine = self.here
        header = {"config": self.settings, "policy": self.fingerprint, "commit": commit, "processor": machine}
        with self.path.open("a") as file:
            for line in [*([] if self._headed else [header]), {"index": index, **results.plain(episode)}]:
                file.write(json.dumps(line) + "\n")
        self._headed = True
        self.made[index] = self.here

    def finish(
        self, episodes: Sequence[EpisodeRecord], words: Sequence[str], measured: Mapping[str, float]
    ) -> Results:
        """Write the results, and forget the part file.

        A file that holds all episodes already only gets what was `measured` for the first time, and its cell's name;
        the time of a look is that of the episodes.
        """
        looks = [episode.look for episode in episodes if episode.look is not None]
        measured = {**measured, **({LOOK: round(statistics.median(looks), 5)} if looks else {})}
        finished = results.read(self.output) if self.output.exists() else None
        if finished and len(finished.episodes) == len(episodes):
            found = finished._replace(cell=self.config.cell, measured={**measured, **finished.measured})
        else:
            found = Results(
                cell=self.config.cell,
                episodes=tuple(episodes),
                command=results.command_line("evaluate_policy", words),
                config=self.settings,
                versions=self.versions | {"policy": self.fingerprint},
                seed=self.config.seed,
                protocol=describe(self.config),
                measured={**(finished.measured if finished else {}), **measured},
                made=self._made(len(episodes)),
            )
        if found != finished:
            results.write(self.output, found)
        self.path.unlink(missing_ok=True)
        return found

    def _made(self, episodes: int) -> tuple[Made, ...]:
        """Of the first so many."""
        known = Counter(self.made[index] for index in sorted(self.made) if index < episodes)
        return tuple(Made(*by, count) for by, count in known.items())

    def _check(self, path: Path, config: Mapping[str, Any], fingerprint: str) -> None:
        advice = "choose another --output, or remove the file"
        defaults = results.portable(yaml.safe_load(cli.dump(EvaluateConfig())))
        usual, before, now = (cli.flatten(tree) for tree in (defaults, config, self.settings))
        before = usual | before  # settings newer than the file had their defaults
        for key in sorted(before.keys() | now.keys()):
            if key not in HOW | EXTENT and before.get(key) != now.get(key):
                raise UserError(
                    f"{path} was made with {key} {before.get(key)}, now it is {now.get(key)}; {advice}"
                )
        if fingerprint != self.fingerprint:
            raise UserError(f"{path} was made with other weights of {self.settings['policy']}; {advice}")


def describe(config: EvaluateConfig) -> dict[str, Any]:
    """How the episodes were run, for people."""
    place, control = config.scene, config.controller
    layout = "LIBERO's own init states" if place.layout == "original" else (
        f"clean scene, object anywhere in x {list(place.x_range)} m, y {list(place.y_range)} m, "
        + (f"target at {list(place.target_xy)} m" if place.target == "fixed" else "target anywhere on it")
        + (f", {place.distractors} distractors" if place.distractors else "")
    )  # fmt: skip
    views = (
        f"{place.view_grid[0]} x {place.view_grid[1]} views, azimuths {list(place.azimuths)}, tilt "
        + (f"from {place.tilt_min} " if place.tilt_min else "")
        + f"to {place.tilt_max} degrees"
    )
    return {
        "suite": place.suite,
        "task": place.task,
        "layout": layout,
        "starts": f"the first {config.episodes} of seed {config.seed}; {place.grid[0]} x {place.grid[1]} cells, "
        "visited in random order, uniform within a cell",
        "view": (views if place.views == "sphere" else f"default view of {place.camera}")
        + (
            f"; the policy is told one turned by {config.camera_error} degrees" if config.camera_error else ""
        ),
        "max_steps": config.max_steps,
        "settle_steps": scene.SETTLE_STEPS,
        "execute": f"{control.execute} points of each chunk, {control.steps_per_point} to "
        f"{control.max_steps_per_point} control steps each, reached within {control.tolerance} m; the whole chunk "
        f"after a look since which the end effector moved less than {control.stall} m"
        + ("" if control.ensemble is None else f"; temporal ensembling, exp(-{control.ensemble} i)"),
        "rotation": control.rotation,
        "render": f"{place.render}, {place.image_size} x {place.image_size}",
        "success": "PLACE: the task's goal predicate holds at any control step, which ends the episode (LIBERO's "
        "rule); GRASP: the object was lifted 3 cm, no more; MISS: it was not",
    }
