"""Do recorded actions do what the recorded poses say? By the numbers, and by carrying them out in the simulator."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

import numpy as np

from vidpara.cli import MissingError, UserError
from vidpara.data.demo_states import read_stored
from vidpara.data.episode import Episode
from vidpara.data.finding import Finding
from vidpara.data.lerobot import download, is_lerobot, read_column
from vidpara.data.rollouts import GRIPPER_COMMAND, is_stored, read_actions, stored
from vidpara.data.source_file import Source, is_hub_id
from vidpara.data.verify_actions import Motion, Turning, actions, rotations
from vidpara.simulation.replay import Replay, replay
from vidpara.types import Float

LOST = 0.02
"""Metres, on average, from which a replay without an explanation is worth a word."""


def check_actions(source: Source, episodes: Sequence[Episode], demos: int) -> Iterator[Finding]:
    """All checks of one source's commands; those of `demos` are carried out, of LIBERO files alone."""
    labelled = [episode for episode in episodes if episode.labelled]
    if not labelled:
        return
    told = _commands(source, labelled)
    if broken := [each.name for each, command in told if not np.isfinite(command).all()]:
        found = (
            f"{len(broken)} of {len(told)} episodes have commands that are not all numbers, first {broken[0]}"
        )
        yield Finding("commands", "warning", f"{found}; they are left out below", "mend or remove them")
        told = [(each, command) for each, command in told if each.name not in broken]
    without = Finding("actions", "left out", "no command of three numbers or more for each of the poses")
    motions = [Motion(command[:, :3], each.position.double().numpy()) for each, command in told]
    rate = statistics.median([episode.rate for episode, _ in told] or [1.0])  # they have two rows at least
    yield actions(motions, rate) if motions else without
    turnings = [
        Turning(command[:, 3:6], each.rotation.double().numpy())
        for each, command in told
        if each.has_rotation and command.shape[1] > GRIPPER_COMMAND
    ]
    if turnings:
        yield rotations(turnings, rate)
    if demos > 0:
        yield _replay(labelled, demos)


def _commands(source: Source, episodes: Sequence[Episode]) -> list[tuple[Episode, Float[np.ndarray, "T n"]]]:
    """Episodes with their commands, where there is one of three numbers or more for each row: not on another clock than
    the file's.
    """
    if is_stored(episodes[0]):
        commands = {episode.name: read_actions(episode) for episode in episodes}
    else:
        folder = download(source.path, source.camera) if is_hub_id(source.path) else source.path
        commands = read_column(source.name, folder, source.lerobot.gripper) if is_lerobot(folder) else {}
        if source.lerobot.gripper_leads:
            commands = {name: np.concatenate([rows[:1], rows[:-1]]) for name, rows in commands.items()}
    found = []
    for episode in episodes:
        command = commands.get(episode.name)
        if command is not None and len(command) == len(episode) > 1 and command.shape[1] >= 3:
            found.append((episode, command.astype(np.float64)))
    return found


def _replay(episodes: Sequence[Episode], demos: int) -> Finding:
    if not is_stored(episodes[0]):
        return Finding("replay", "left out", "only LIBERO files name a task of the simulator and its states")
    chosen = [stored(episode) for episode in episodes[:: max(1, len(episodes) // demos)][:demos]]
    try:
        return judge(replay([read_stored(each.file, each.demo) for each in chosen]))
    except MissingError as missing:
        return Finding("replay", "left out", str(missing))
    except UserError as error:
        return Finding("replay", "error", str(error), "write these demos again, or leave them out")
    except RuntimeError as error:
        last = str(error).strip().splitlines()[-1]
        fix = "do states, model and task of the file belong to the simulator that is installed?"
        return Finding("replay", "error", f"the simulator failed on {chosen[0].file}: {last}", fix)


def judge(result: Replay) -> Finding:
    """What a replay says about the data."""
    worst = max(result.apart, key=lambda apart: apart.score)
    found = (
        f"{result.rows} actions of {len(result.apart)} demo(s) carried out in {result.seconds:.0f} s: the hand is "
        f"{worst.mean * 1000:.1f} mm from where it was recorded on average, {worst.worst * 1000:.0f} mm at most, "
        f"{worst.end * 1000:.0f} mm in the end; the gripper's opening {worst.gap * 1000:.0f} mm"
    )
    if result.found:
        explained = f"{result.explained * 1000:.1f} mm instead of {result.unexplained * 1000:.1f} mm"
        return Finding("replay", "error", f"{result.found}: so read, {explained}; {found}", result.fix)
    if worst.mean > LOST or worst.gap > LOST:
        fix = (
            "no shift, sign, order of axes or unit explains it: are the actions OSC_POSE commands at 20 Hz, "
            "and of the version of the simulator that is installed?"
        )
        return Finding("replay", "warning", found, fix)
    return Finding("replay", "ok", found)
