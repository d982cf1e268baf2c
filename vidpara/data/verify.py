"""What may be wrong with data before anything is trained on them: each check says what it found and what to change."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from vidpara.cli import UserError
from vidpara.data import verify_motion
from vidpara.data.episode import Episode
from vidpara.data.finding import Finding

BLOCK = 16
"""Frames that are decoded at once: whole videos do not fit in memory."""
EPISODES = 8
"""Episodes of a source, evenly spread, whose pixels are looked at."""
FASTEST = 2.0
"""Metres a second that no arm moves; a Panda's end effector is limited to 1.7."""
OUT_OF_VIEW = 0.05
"""Share of moments with the end effector outside the image from which it is worth a word."""
WIDEST = 0.5
"""Metres that no gripper opens."""
HALF_WAY = 0.2
"""How far from 0 and 1 the usual targets of an open and a closed gripper may be."""
TASKS = 10
"""Instructions that are shown."""


def verify(episodes: Sequence[Episode]) -> Iterator[Finding]:
    """All checks of one source's episodes, the cheap ones first."""
    labelled = [episode for episode in episodes if episode.labelled]
    decoded, finding = decode(_spread(labelled or episodes, EPISODES))
    frames = sum(map(len, episodes))
    yield finding._replace(found=f"{finding.found}; {len(episodes)} episodes have {frames} frames")
    yield tasks(episodes)
    if not labelled:
        yield Finding(
            "labels", "warning", "no episode has poses and a camera", "they can serve stage one only"
        )
        return
    yield from (jumps(labelled), gripper(labelled), view(labelled))
    yield from verify_motion.check(decoded) if decoded else ()


def tasks(episodes: Sequence[Episode]) -> Finding:
    """What the robot was told to do, and how often."""
    counts = Counter(episode.task for episode in episodes)
    named = [f"'{task}' ({count})" for task, count in counts.most_common() if task]
    without = f"; {counts['']} of {len(episodes)} episodes have none" if counts[""] else ""
    shown = "; ".join(named[:TASKS]) + (f" and {len(named) - TASKS} others" if len(named) > TASKS else "")
    return Finding("instructions", "ok", f"{len(named)} of them: {shown}{without}" if named else "none")


def decode(episodes: Sequence[Episode]) -> tuple[list[Episode], Finding]:
    """Decode episodes to their last frames: those that can be read, and what is wrong with the others."""
    whole, wrong = [], []
    for episode in episodes:
        try:
            blocks = (
                range(first, min(first + BLOCK, len(episode))) for first in range(0, len(episode), BLOCK)
            )
            count = sum(len(episode.images(block)) for block in blocks)
        except (OSError, ValueError, RuntimeError, UserError) as error:
            wrong.append(f"{episode.name}: {error}")
            continue
        if count == len(episode):
            whole.append(episode)
        else:
            wrong.append(f"{episode.name} has {count} frames and {len(episode)} poses")
    found = f"{len(whole)} of {len(episodes)} episodes decoded to the end"
    if wrong:
        fix = "write these episodes again, one pose for every frame, or leave them out"
        return whole, Finding("frames", "error", f"{found}; {'; '.join(wrong)}", fix)
    return whole, Finding("frames", "ok", found)


def jumps(episodes: Sequence[Episode]) -> Finding:
    """Poses that jump, and poses that never move."""
    still, worst, stride, where = 0, 0.0, 0.0, ""
    for episode in episodes:
        if len(episode) < 2:
            continue
        strides = (episode.position[1:] - episode.position[:-1]).norm(dim=-1).numpy()
        speeds = strides / np.maximum(np.diff(episode.times), 1e-6)
        frame = int(speeds.argmax())
        still += int(speeds[frame] == 0.0)
        if speeds[frame] > worst:
            worst, stride, where = speeds[frame], strides[frame], f"{episode.name} at frame {frame + 1}"
    if worst > FASTEST:
        found = f"the end effector jumps by {stride * 100:.0f} cm in one frame, {worst:.1f} m/s: {where}"
        return Finding(
            "poses", "error", found, "are they metres? are frames missing there, or two episodes joined?"
        )
    if still:
        return Finding(
            "poses", "error", f"the end effector never moves in {still} episodes", "leave them out"
        )
    return Finding("poses", "ok", f"fastest {worst:.2f} m/s ({where})")


def gripper(episodes: Sequence[Episode]) -> Finding:
    """Whether the fingers close where the gripper is told to close."""
    closed, opened = [], []
    values, gaps = (
        torch.cat([getattr(e, name) for e in episodes]).numpy() for name in ("gripper", "opening")
    )
    if gaps.max() > WIDEST:
        found = f"the gripper opens by up to {gaps.max():.2f} m"
        return Finding("gripper", "error", found, "are the openings metres? (--data.lerobot.opening_range)")
    for episode in episodes:
        told, gap = episode.gripper.numpy() > 0.5, episode.opening.numpy()
        held = 8  # frames after which the fingers have followed
        closing = np.convolve(told, np.ones(held), "full")[: len(told)] >= held
        opening = np.convolve(~told, np.ones(held), "full")[: len(told)] >= held
        closed += gap[closing].tolist()
        opened += gap[opening].tolist()
    if not closed or not opened:
        only = "closed" if closed else "opened"
        return Finding(
            "gripper", "warning", f"the gripper is only ever {only}", "is the gripper's column the right one?"
        )
    low, high = float(np.median(values[values <= 0.5])), float(np.median(values[values > 0.5]))
    if low > HALF_WAY or high < 1 - HALF_WAY:
        return Finding(
            "gripper", "error", f"the targets are {low:.2f} for open and {high:.2f} for closed, not 0 and 1",
            "which values of the command stand for open and closed? (--data.lerobot.gripper_open, gripper_closed)",
        )  # fmt: skip
    a, b = float(np.median(closed)), float(np.median(opened))
    found = f"finger gap {a * 100:.1f} cm when told to close, {b * 100:.1f} cm when told to open"
    if a > b:
        return Finding(
            "gripper", "error", found, "the gripper's sign is inverted: here 0 is open and 1 is closed"
        )
    if a >= 0.9 * b:
        return Finding("gripper", "warning", found, "do the fingers follow? is the gap the right column?")
    return Finding("gripper", "ok", found)


def view(episodes: Sequence[Episode]) -> Finding:
    """How often the end effector is outside the image."""
    outside = [float((~episode.in_view).float().mean()) for episode in episodes]
    share, worst = float(np.mean(outside)), int(np.argmax(outside))
    found = f"the end effector is outside the image in {share:.0%} of the frames"
    if share == 0:
        return Finding("view", "ok", found)
    found += f", {outside[worst]:.0%} of {episodes[worst].name}"
    fix = "--data.out_of_view mask trains without those steps"
    if share > 0.5:
        return Finding(
            "view", "error", found, "the camera's pose or intrinsics are of another camera or image size"
        )
    return Finding("view", "warning" if share > OUT_OF_VIEW else "ok", found, fix)


def _spread(episodes: Sequence[Episode], count: int) -> list[Episode]:
    """At most `count` episodes, evenly spaced."""
    return list(episodes[:: max(1, -(-len(episodes) // count))])
