"""Whether commanded translations go with the recorded poses, read from the numbers alone.

An arm lags behind its commands, so which row's command led to which pose is known only up to the lag: a motion that
comes before its command is an error, one that follows by a row or two is what a controller does.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from vidpara.data.finding import Finding
from vidpara.types import Float

LAGS = range(-4, 7)
"""Rows by which a motion may follow its command."""
USUAL = range(0, 4)
"""Those that a controller explains."""
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
AXES = "xyz"


class Motion(NamedTuple):
    """One episode's commanded translations, of any unit, and end-effector positions; row j's led to position j."""

    command: Float[np.ndarray, "T 3"]
    position: Float[np.ndarray, "T 3"]


def actions(motions: Sequence[Motion]) -> Finding:
    """Correlation of commands and motions, axis by axis, at every lag and with every order and sign of the axes."""
    moved = np.concatenate([np.diff(motion.position, axis=0) for motion in motions])
    told = np.concatenate([motion.command[1:] for motion in motions])
    used = [axis for axis in range(3) if moved[:, axis].std() > MOVES]
    if not used:
        return Finding("actions", "left out", "the end effector hardly moves")
    if any(told[:, axis].std() == 0 for axis in used):
        return Finding(
            "actions", "warning", "the end effector moves along axes whose command never changes",
            "are the action's first three numbers translations?",
        )  # fmt: skip
    table = {lag: _correlations(motions, lag) for lag in LAGS}
    lag = max(USUAL, key=lambda lag: _mean(table[lag], (0, 1, 2), used))
    own = _mean(table[lag], (0, 1, 2), used)
    each = ", ".join(f"{AXES[axis]} {table[lag][axis, axis]:.2f}" for axis in used)
    found = f"motion follows the commands by {lag} row{'s' if lag != 1 else ''}: correlation {each}"
    orders = itertools.permutations(range(3)) if len(used) == 3 else [(0, 1, 2)]
    where, order = max(
        itertools.product(USUAL, orders), key=lambda at: _mean(np.abs(table[at[0]]), at[1], used)
    )
    turned = [(axis, order[axis], table[where][axis, order[axis]]) for axis in used]
    if _mean(np.abs(table[where]), order, used) > max(GOES, own + BETTER):
        said = ", ".join(f"{AXES[a]} goes with {'-' if r < 0 else ''}{AXES[b]}" for a, b, r in turned)
        fix = "the commands have other axes or signs than the poses: bring both into the world's"
        return Finding("actions", "error", f"{found}; but {said}", fix)
    if own < GOES and (target := _absolute(motions)) > FOLLOWS:
        return Finding(
            "actions",
            "ok",
            f"the commands are positions to go to: correlation with those reached {target:.2f}",
        )
    if own < GOES:
        fix = (
            "are the first three numbers differences of the end effector's position, or positions? Joint commands and "
            "those in the hand's frame are neither"
        )
        return Finding("actions", "warning", found, fix)
    best = max(LAGS, key=lambda lag: _mean(table[lag], (0, 1, 2), used))
    if best not in USUAL and _mean(table[best], (0, 1, 2), used) > own + LATER:
        off = f"the motion is {abs(best)} rows {'before' if best < 0 else 'behind'} its command"
        return Finding(
            "actions", "error", f"{off}; {found}", "actions and poses are of other rows: shift one of them"
        )
    return Finding("actions", "ok", found)


def _correlations(motions: Sequence[Motion], lag: int) -> Float[np.ndarray, "3 3"]:
    """Of each axis' motion with each axis' command `lag` rows earlier."""
    moved, told = [], []
    for motion in motions:
        stride, command = np.diff(motion.position, axis=0), motion.command[1:]
        first, last = max(0, lag), len(stride) + min(0, lag)
        moved.append(stride[first:last])
        told.append(command[first - lag : last - lag])
    both = np.concatenate([np.concatenate(moved), np.concatenate(told)], axis=1)
    both = (both - both.mean(0)) / np.maximum(both.std(0), 1e-12)
    return both[:, :3].T @ both[:, 3:] / max(1, len(both))


def _absolute(motions: Sequence[Motion]) -> float:
    """Correlation of commands with the next row's positions, the mean of the axes; the least of the episodes'."""
    least = 1.0
    for motion in motions:
        pairs = zip(motion.command[:-1].T, motion.position[1:].T, strict=True)
        each = [np.corrcoef(a, b)[0, 1] for a, b in pairs if a.std() > MOVES and b.std() > MOVES]
        least = min(least, float(np.mean(each)) if each else 0.0)
    return least


def _mean(table: Float[np.ndarray, "3 3"], order: Sequence[int], used: Sequence[int]) -> float:
    return float(np.mean([table[axis, order[axis]] for axis in used]))
