"""Whether recorded poses are those of an arm: no jumps, and not always the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from vidpara.data.episode import Episode
from vidpara.data.finding import Finding
from vidpara.types import Float

Numbers = Float[np.ndarray, "n"]
FASTEST = 2.0
"""Metres a second that no arm moves; a Panda's end effector is limited to 1.7."""
HARDEST, KINK = 30.0, 0.05
"""Metres a second squared that no arm is accelerated by (a Panda's end effector is limited to 13), and metres that a
position must be off the line of its neighbours, twice, to be called wrong: robots that tell their pose less often than
it is written down move by fits and starts."""
QUICKEST, TURN = 10.0, 0.5
"""The same for turning, in radians a second (a Panda: 2.5) and radians from a row to the next."""


def jumps(episodes: Sequence[Episode]) -> Finding:
    """Poses that jump, and poses that never move."""
    speed, stride, at = _worst(episodes, _speeds, _strides)
    fix = "are they metres? are frames missing there, or two episodes joined?"
    if speed > FASTEST:
        found = f"the end effector jumps by {stride * 100:.0f} cm in one frame, {speed:.1f} m/s: {at}"
        return Finding("poses", "error", found, fix)
    acceleration, kink, where = _worst(episodes, _accelerations, _kinks, KINK)
    if acceleration > HARDEST:
        found = f"the end effector jumps: it is accelerated by {acceleration:.0f} m/s², {kink * 50:.0f} cm off its path"
        return Finding("poses", "error", f"{found}: {where}", fix)
    turning, turn, where = _worst([each for each in episodes if each.has_rotation], _turnings, _turns, TURN)
    if turning > QUICKEST:
        found = f"the hand turns by {turn:.1f} radians in one frame, {turning:.0f} a second: {where}"
        fix = "are the rotations read as what they are? (lerobot.rotation_as) are frames missing there?"
        return Finding("poses", "error", found, fix)
    still = sum(len(episode) > 1 and not _strides(episode).any() for episode in episodes)
    if still:
        return Finding(
            "poses", "error", f"the end effector never moves in {still} episodes", "leave them out"
        )
    return Finding("poses", "ok", f"fastest {speed:.2f} m/s ({at})")


def _worst(
    episodes: Sequence[Episode],
    rate: Callable[[Episode], Numbers],
    size: Callable[[Episode], Numbers],
    least: float = 0.0,
) -> tuple[float, float, str]:
    """The largest rate of a change that has at least a size; that size, and where it is."""
    worst = (0.0, 0.0, "nowhere")
    for episode in episodes:
        sizes = size(episode)
        rates = np.where(sizes >= least, rate(episode), 0.0)
        if rates.max(initial=0.0) > worst[0]:
            frame = int(rates.argmax())
            worst = (float(rates[frame]), float(sizes[frame]), f"{episode.name} at frame {frame + 1}")
    return worst


def _seconds(episode: Episode) -> Numbers:
    return np.maximum(np.diff(episode.times), 1e-6)


def _strides(episode: Episode) -> Numbers:
    """Metres from every row to the next."""
    return episode.position.diff(dim=0).norm(dim=-1).numpy()


def _speeds(episode: Episode) -> Numbers:
    return _strides(episode) / _seconds(episode)


def _kinks(episode: Episode) -> Numbers:
    """Metres: a row's position against the middle of its neighbours, twice."""
    return episode.position.diff(n=2, dim=0).norm(dim=-1).numpy()


def _accelerations(episode: Episode) -> Numbers:
    seconds = _seconds(episode)
    velocity = episode.position.diff(dim=0).numpy() / seconds[:, None]
    return np.linalg.norm(np.diff(velocity, axis=0), axis=-1) * 2 / (seconds[1:] + seconds[:-1])


def _turns(episode: Episode) -> Numbers:
    """Radians from every row to the next."""
    cosine = ((episode.rotation[1:] * episode.rotation[:-1]).sum((1, 2)) - 1) / 2
    return cosine.clamp(-1, 1).arccos().numpy()


def _turnings(episode: Episode) -> Numbers:
    return _turns(episode) / _seconds(episode)
