"""What may be wrong with data before anything is trained on them: each check says what it found and what to change."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from vidpara.data import verify_motion
from vidpara.data.episode import Episode
from vidpara.data.finding import Finding
from vidpara.data.verify_pictures import decode, pictures
from vidpara.data.verify_poses import jumps

EPISODES = 8
"""Decoded episodes of a source, evenly spread, of which pixels are compared with numbers: they are kept in memory."""
OUT_OF_VIEW = 0.05
"""Share of moments with the end effector outside the image from which it is worth a word."""
WIDEST = 0.5
"""Metres that no gripper opens."""
HALF_WAY = 0.2
"""How far from 0 and 1 the usual targets of an open and a closed gripper may be."""
TASKS = 10
"""Instructions that are shown."""


def verify(episodes: Sequence[Episode], count: int = EPISODES) -> Iterator[Finding]:
    """All checks of one source's episodes; the pictures of `count` are decoded, of all if it is 0."""
    labelled = [episode for episode in episodes if episode.labelled]
    decoded, finding = decode(_spread(labelled or episodes, count) if count else episodes)
    frames = sum(map(len, episodes))
    yield finding._replace(found=f"{finding.found}; {len(episodes)} episodes have {frames} frames")
    if decoded:
        yield pictures(decoded)
    yield tasks(episodes)
    if not labelled:
        yield Finding(
            "labels", "warning", "no episode has poses and a camera", "they can serve stage one only"
        )
        return
    yield from (jumps(labelled), gripper(labelled), view(labelled))
    seen = [each.episode for each in decoded if each.episode.labelled]
    yield from verify_motion.check(_spread(seen, EPISODES)) if seen else ()


def tasks(episodes: Sequence[Episode]) -> Finding:
    """What the robot was told to do, and how often."""
    counts = Counter(episode.task for episode in episodes)
    named = [f"'{task}' ({count})" for task, count in counts.most_common() if task]
    without = f"; {counts['']} of {len(episodes)} episodes have none" if counts[""] else ""
    shown = "; ".join(named[:TASKS]) + (f" and {len(named) - TASKS} others" if len(named) > TASKS else "")
    return Finding("instructions", "ok", f"{len(named)} of them: {shown}{without}" if named else "none")


def gripper(episodes: Sequence[Episode]) -> Finding:
    """Whether the fingers close where the gripper is told to close."""
    closed, opened = [], []
    values, gaps = (
        torch.cat([getattr(e, name) for e in episodes]).numpy() for name in ("gripper", "opening")
    )
    if gaps.max() > WIDEST:
        found = f"the gripper opens by up to {gaps.max():.2f} m"
        return Finding("gripper", "error", found, "are the openings metres? (lerobot.opening_range)")
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
            "which values of the command stand for open and closed? (lerobot.gripper_open, gripper_closed)",
        )  # fmt: skip
    if not gaps.any():
        told = f"told to close in {float((values > 0.5).mean()):.0%} of the frames; the fingers' gap was not measured"
        return Finding("gripper", "ok", told)
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
    places = np.linspace(0, len(episodes) - 1, min(count, len(episodes))).round().astype(int)
    return [episodes[place] for place in places]
