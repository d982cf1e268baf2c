"""Whether commanded translations and rotations go with the recorded poses, read from the numbers alone.

An arm lags behind its commands, so which row's command led to which pose is known only up to the lag: a motion that
comes before its command is an error, one that follows by a tenth of a second is what a controller does.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

from vidpara.data.finding import Finding
from vidpara.types import Float

EARLIEST, LATEST = -0.2, 0.5
"""Seconds by which a motion may follow its command."""
USUAL = 0.15
"""Up to which a controller explains it."""
GOES = 0.5
"""Correlation from which an axis goes with its command."""
FOLLOWS = 0.9
"""Correlation from which positions follow commands that are positions."""
BETTER = 0.2
"""By how much another order or sign of the axes must correlate better, on average, to be named."""
LATER = 0.02
"""The same for another row."""
MOVES = 1e-5
"""Metres a row, standard deviation, from which an axis moves."""
TURNS = 0.008
"""Radians a row, standard deviation, from which the hand turns about an axis: of ours, which is told not to, it does by
0.004 as the arm moves."""
AXES = "xyz"
Table = Float[np.ndarray, "3 3"]


class Motion(NamedTuple):
    """One episode's commanded translations, of any unit, and end-effector positions; row j's led to position j."""

    command: Float[np.ndarray, "T 3"]
    position: Float[np.ndarray, "T 3"]


class Turning(NamedTuple):
    """One episode's commanded rotations, about the world's axes, and the hand's; row j's led to rotation j."""

    command: Float[np.ndarray, "T 3"]
    rotation: Float[np.ndarray, "T 3 3"]


class Followed(NamedTuple):
    """The motion from every row to the next, and the command that was to lead there."""

    motion: Float[np.ndarray, "n 3"]
    command: Float[np.ndarray, "n 3"]


class Rows(NamedTuple):
    """Rows by which a motion may follow its command, and those of them that a controller explains."""

    all: range
    usual: range


def _rows(rate: float) -> Rows:
    """At so many rows a second; a row either way at least."""
    first, last, usual = (max(1, round(abs(seconds) * rate)) for seconds in (EARLIEST, LATEST, USUAL))
    return Rows(range(-first, max(last, usual) + 1), range(usual + 1))


class Match(NamedTuple):
    """How commands and motions go together: `own` is the mean correlation of each axis with itself."""

    tables: dict[int, Table]
    """Correlations of each axis' motion with each axis' command, by the rows between."""
    lag: int
    own: float
    said: str
    other: str
    """Which axis' command each axis goes with, if clearly not with its own; empty if it does."""


def actions(motions: Sequence[Motion], rate: float) -> Finding:
    """Correlation of commands and motions, `rate` rows a second, axis by axis, at every lag and with every order and
    sign of the axes.
    """
    followed = [Followed(np.diff(each.position, axis=0), each.command[1:]) for each in motions]
    moved, told = _spreads(followed)
    used = [axis for axis in range(3) if moved[axis] > MOVES]
    if not used:
        return Finding("actions", "left out", "the end effector hardly moves")
    if any(told[axis] == 0 for axis in used):
        return Finding(
            "actions", "warning", "the end effector moves along axes whose command never changes",
            "are the action's first three numbers translations?",
        )  # fmt: skip
    rows = _rows(rate)
    match = _match(followed, used, rows)
    found = f"motion follows the commands {match.said}"
    if (match.other or match.own < GOES) and (target := _absolute(motions)) > FOLLOWS:
        said = f"the commands are positions to go to: correlation with those reached {target:.2f}"
        return Finding("actions", "ok", said)
    if match.other:
        fix = "the commands have other axes or signs than the poses: bring both into the world's"
        return Finding("actions", "error", f"{found}; but {match.other}", fix)
    best = max(rows.all, key=lambda lag: _mean(match.tables[lag], (0, 1, 2), used))
    most = _mean(match.tables[best], (0, 1, 2), used)
    if best not in rows.usual and most > max(GOES, match.own + LATER):
        late = best > 0
        off = f"the motion is {abs(best)} rows ({abs(best) / rate:.2g} s) {'behind' if late else 'before'} its command"
        fix = "actions and poses are of other rows: shift one of them"
        fix = f"is the arm as slow as that? If not, {fix}" if late else fix
        return Finding(
            "actions", "warning" if late else "error", f"{off}, correlation {most:.2f}; {found}", fix
        )
    if match.own < GOES:
        fix = (
            "are the first three numbers differences of the end effector's position, or positions? Joint commands and "
            "those in the hand's frame are neither"
        )
        return Finding("actions", "warning", found, fix)
    return Finding("actions", "ok", found)


def rotations(turnings: Sequence[Turning], rate: float) -> Finding:
    """The same for the hand's rotation. Commands of another frame are as common as rotations that are read wrongly, and
    numbers do not tell one from the other: no error.
    """
    followed = [Followed(_turns(each.rotation), each.command[1:]) for each in turnings]
    turned, told = _spreads(followed)
    used = [axis for axis in range(3) if turned[axis] > TURNS]
    if not used:
        return Finding("rotations", "left out", "the hand hardly turns")
    if untold := [AXES[axis] for axis in used if told[axis] == 0]:
        found = f"the hand turns about {' and '.join(untold)}, and the command for it never changes"
        fix = "are the rotations read from the right numbers (lerobot.rotation_at), and as what they are?"
        return Finding("rotations", "warning", found, fix)
    match = _match(followed, used, _rows(rate))
    found = f"the hand's turning follows the commands {match.said}"
    fix = (
        "are the rotations read as what they are (lerobot.rotation_as, rotation_at), of the hand in the world "
        "and not the other way round? commands in the hand's own frame, which are no fault, look like this, too"
    )
    if match.other:
        return Finding("rotations", "warning", f"{found}; but {match.other}", fix)
    if match.own < GOES:
        return Finding("rotations", "warning", found, fix)
    return Finding("rotations", "ok", found)


def _turns(rotation: Float[np.ndarray, "T 3 3"]) -> Float[np.ndarray, "n 3"]:
    """From every row to the next, about the world's axes (radians)."""
    return Rotation.from_matrix(rotation[1:] @ rotation[:-1].transpose(0, 2, 1)).as_rotvec()


def _spreads(followed: Sequence[Followed]) -> tuple[Float[np.ndarray, "3"], Float[np.ndarray, "3"]]:
    """Standard deviation of motions and commands, axis by axis."""
    return tuple(np.concatenate(part).std(0) for part in zip(*followed, strict=True))


def _match(followed: Sequence[Followed], used: Sequence[int], rows: Rows) -> Match:
    tables = {lag: _correlations(followed, lag) for lag in rows.all}
    lag = max(rows.usual, key=lambda lag: _mean(tables[lag], (0, 1, 2), used))
    own = _mean(tables[lag], (0, 1, 2), used)
    each = ", ".join(f"{AXES[axis]} {tables[lag][axis, axis]:.2f}" for axis in used)
    said = f"by {lag} row{'s' if lag != 1 else ''}: correlation {each}"
    orders = itertools.permutations(range(3)) if len(used) == 3 else [(0, 1, 2)]
    where, order = max(
        itertools.product(rows.usual, orders), key=lambda at: _mean(np.abs(tables[at[0]]), at[1], used)
    )
    if _mean(np.abs(tables[where]), order, used) <= max(GOES, own + BETTER):
        return Match(tables, lag, own, said, "")
    turned = [(axis, order[axis], tables[where][axis, order[axis]]) for axis in used]
    other = ", ".join(f"{AXES[a]} goes with {'-' if r < 0 else ''}{AXES[b]}" for a, b, r in turned)
    return Match(tables, lag, own, said, other)


def _correlations(followed: Sequence[Followed], lag: int) -> Table:
    """Of each axis' motion with each axis' command `lag` rows earlier, where the episodes are longer than that."""
    moved, told = [np.zeros((0, 3))], [np.zeros((0, 3))]
    for motion, command in followed:
        if len(motion) > abs(lag):
            first, last = max(0, lag), len(motion) + min(0, lag)
            moved.append(motion[first:last])
            told.append(command[first - lag : last - lag])
    both = np.concatenate([np.concatenate(moved), np.concatenate(told)], axis=1)
    if not len(both):
        return np.zeros((3, 3))
    both = (both - both.mean(0)) / np.maximum(both.std(0), 1e-12)
    return both[:, :3].T @ both[:, 3:] / len(both)


def _absolute(motions: Sequence[Motion]) -> float:
    """Correlation of commands with the next row's positions, the mean of the axes; the least of the episodes'."""
    least = 1.0
    for motion in motions:
        pairs = zip(motion.command[:-1].T, motion.position[1:].T, strict=True)
        each = [np.corrcoef(a, b)[0, 1] for a, b in pairs if a.std() > MOVES and b.std() > MOVES]
        least = min(least, float(np.mean(each)) if each else 0.0)
    return least


def _mean(table: Table, order: Sequence[int], used: Sequence[int]) -> float:
    return float(np.mean([table[axis, order[axis]] for axis in used]))
