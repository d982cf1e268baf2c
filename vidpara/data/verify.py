"""What may be wrong with data before anything is trained on them: each check says what it found and what to change.

Pixels and numbers are compared through motion. Around the end effector the image moves as the projected end effector
does; so if image, poses and camera belong together, a patch there is found again where the projection goes. Turned,
mirrored or shifted images, a wrong camera and wrong poses all break that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np

from vidpara.cli import UserError
from vidpara.data.episode import Episode
from vidpara.types import Bool, Float

Verdict = Literal["ok", "warning", "error", "left out"]
EPISODES = 8
"""Episodes of a source, evenly spread, whose pixels are looked at."""
LAG = 3
"""Frames between the two pictures of a pair."""
MOVED = 3.0
"""Pixels that the projected end effector must move for a pair to say something, at 128 rows."""
JUMP = 0.08
"""Metres in one frame that no arm moves."""
OUT_OF_VIEW = 0.05
"""Share of moments with the end effector outside the image from which it is worth a word."""
GOES_ALONG = 0.04
"""Share of the motion that must go with the end effector. Our own rollouts give 0.12, with a camera off by a thirtieth
of the image 0.03 and less, unless it is off towards the arm, which moves alike."""
SHIFTS = (0, -9, -6, -4, -2, 2, 4, 6, 9)
"""Frames by which poses may be late or early."""
CLEAR = 1.5
"""How much better another moment's poses must fit to be named."""


TASKS = 10
"""Instructions that are shown."""


class Finding(NamedTuple):
    """One check's answer. `fix` is empty where nothing is to be done."""

    check: str
    verdict: Verdict
    found: str
    fix: str = ""


class Film(NamedTuple):
    """An episode as it is looked at: grey pictures in [0, 1], the projected end effector (u, v), whether it is seen."""

    images: Float[np.ndarray, "t h w"]
    pixel: Float[np.ndarray, "t 2"]
    seen: Bool[np.ndarray, "t"]


class Pairs(NamedTuple):
    """Pairs of grey pictures, and the projected end effector (u, v) in each, before and after `LAG` frames."""

    before: Float[np.ndarray, "n h w"]
    after: Float[np.ndarray, "n h w"]
    pixel_before: Float[np.ndarray, "n 2"]
    pixel_after: Float[np.ndarray, "n 2"]
    change: Float[np.ndarray, "n"]
    """Largest squared difference of a patch of the two."""


Turn = Callable[[Float[np.ndarray, "n h w"]], Float[np.ndarray, "n h2 w2"]]
TURNS: dict[str, Turn] = {
    "as they are": lambda x: x,
    "mirrored left to right": lambda x: x[:, :, ::-1],
    "upside down": lambda x: x[:, ::-1],
    "turned by 180 degrees": lambda x: x[:, ::-1, ::-1],
    "turned by 90 degrees to the left": lambda x: np.rot90(x, 1, (1, 2)),
    "turned by 90 degrees to the right": lambda x: np.rot90(x, -1, (1, 2)),
    "transposed": lambda x: x.transpose(0, 2, 1),
    "transposed along the other diagonal": lambda x: np.rot90(x, 2, (1, 2)).transpose(0, 2, 1),
}
"""The eight flips and rotations, by what the pictures must be to fit the numbers."""


def verify(episodes: Sequence[Episode]) -> Iterator[Finding]:
    """All checks of one source's episodes, the cheap ones first."""
    yield _readable(episodes)
    yield tasks(episodes)
    labelled = [episode for episode in episodes if episode.labelled]
    if not labelled:
        yield Finding(
            "labels", "warning", "no episode has poses and a camera", "they can serve stage one only"
        )
        return
    yield from (jumps(labelled), gripper(labelled), view(labelled))
    films = [film(episode) for episode in _spread(labelled, EPISODES)]
    pairs = motion_pairs(films)
    if not len(pairs.before):
        yield Finding(
            "camera", "warning", "the end effector hardly moves in the pictures", "look at the sheet"
        )
        return
    yield orientation(pairs)
    yield clock(films)
    yield camera(pairs)


def tasks(episodes: Sequence[Episode]) -> Finding:
    """What the robot was told to do, and how often."""
    counts = Counter(episode.task for episode in episodes)
    named = [f"'{task}' ({count})" for task, count in counts.most_common() if task]
    without = f"; {counts['']} of {len(episodes)} episodes have none" if counts[""] else ""
    shown = "; ".join(named[:TASKS]) + (f" and {len(named) - TASKS} others" if len(named) > TASKS else "")
    return Finding("instructions", "ok", f"{len(named)} of them: {shown}{without}" if named else "none")


def _readable(episodes: Sequence[Episode]) -> Finding:
    """Frames of some episodes decoded to the last one, their number compared with that of the poses."""
    for episode in _spread(episodes, EPISODES):
        try:
            count = len(episode.images())
        except (OSError, ValueError, RuntimeError, UserError) as error:
            return Finding(
                "frames", "error", f"{episode.name}: {error}", "write this episode again or leave it out"
            )
        if count != len(episode):
            found = f"{episode.name} has {count} frames and {len(episode)} poses"
            return Finding("frames", "error", found, "write one pose for every frame")
    frames = sum(map(len, episodes))
    return Finding("frames", "ok", f"{len(episodes)} episodes, {frames} frames")


def jumps(episodes: Sequence[Episode]) -> Finding:
    """Poses that jump, and poses that never move."""
    still, worst, where = 0, 0.0, ""
    for episode in episodes:
        if len(episode) < 2:
            continue
        stride = (episode.position[1:] - episode.position[:-1]).norm(dim=-1)
        still += int(float(stride.max()) == 0.0)
        if float(stride.max()) > worst:
            worst, where = float(stride.max()), f"{episode.name} at frame {int(stride.argmax()) + 1}"
    if worst > JUMP:
        found = f"the end effector jumps by {worst * 100:.0f} cm in one frame: {where}"
        return Finding(
            "poses", "error", found, "are they metres? are frames missing there, or two episodes joined?"
        )
    if still:
        return Finding(
            "poses", "error", f"the end effector never moves in {still} episodes", "leave them out"
        )
    return Finding("poses", "ok", f"fastest {worst * 100:.1f} cm a frame ({where})")


def gripper(episodes: Sequence[Episode]) -> Finding:
    """Whether the fingers close where the gripper is told to close."""
    closed, opened = [], []
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
    a, b = float(np.median(closed)), float(np.median(opened))
    found = f"finger gap {a * 100:.1f} cm when told to close, {b * 100:.1f} cm when told to open"
    if a > b:
        return Finding(
            "gripper", "error", found, "the gripper's sign is inverted: here 0 is open and 1 is closed"
        )
    if a > 0.9 * b:
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


def orientation(pairs: Pairs) -> Finding:
    """All eight flips and rotations of the pictures, scored by how well they move with the projected end effector."""
    square = pairs.before.shape[1] == pairs.before.shape[2]
    fits = {}
    for name, turn in TURNS.items():
        before, after = turn(pairs.before), turn(pairs.after)
        if square or before.shape == pairs.before.shape:
            fits[name] = fit(pairs._replace(before=before, after=after))
    best = max(fits, key=lambda name: fits[name])
    if best == "as they are" or fits[best] < GOES_ALONG:
        others = max(value for name, value in fits.items() if name != "as they are")
        found = f"no flip or rotation of the pictures moves better with the numbers ({max(0.0, others):.0%})"
        return Finding("orientation", "ok", found)
    found = f"the pictures move with the numbers when they are {best} ({fits[best]:.0%}), and not as they are"
    return Finding("orientation", "error", found, f"store the pictures {best}")


def clock(films: Sequence[Film]) -> Finding:
    """Whether the pictures move with poses of another moment."""
    fits = {shift: fit(motion_pairs(films, shift)) for shift in SHIFTS}
    best = max(fits, key=lambda shift: fits[shift])
    found = f"{fits[0]:.0%} of the motion goes with the poses of the same frame"
    if fits[best] < max(CLEAR * fits[0], GOES_ALONG):
        return Finding("clock", "ok", found)
    found += f", {fits[best]:.0%} with those of {abs(best)} frames {'later' if best > 0 else 'earlier'}"
    fix = "pictures and poses are recorded with a delay between them; shift one of them by that many frames"
    return Finding("clock", "error", found, fix)


def camera(pairs: Pairs) -> Finding:
    """Whether the picture moves with the end effector where it is projected."""
    share = fit(pairs)
    found = f"{share:.0%} of the motion in the picture goes with the end effector where it is projected"
    if share >= GOES_ALONG:
        return Finding("camera", "ok", found)
    fix = "check the camera's intrinsics (of which image size?) and pose, and which point of the hand the poses are of"
    return Finding("camera", "error", found, fix)


def film(episode: Episode) -> Film:
    """An episode's pictures in grey, and where its end effector is projected."""
    grey = episode.images().mean(-1) / 255
    return Film(grey, episode.pixel.numpy(), episode.in_view.numpy())


def motion_pairs(films: Sequence[Film], shift: int = 0) -> Pairs:
    """Pairs of pictures between which the projected end effector has moved; with `shift` the poses are taken from so
    many frames later.
    """
    before, after, pixel_before, pixel_after = [], [], [], []
    for images, pixel, seen in films:
        least = MOVED * images.shape[1] / 128
        for now in range(max(0, -shift), len(images) - LAG - max(0, shift), LAG):
            here, there = now + shift, now + LAG + shift
            if seen[here] and seen[there] and np.linalg.norm(pixel[there] - pixel[here]) >= least:
                before.append(images[now])
                after.append(images[now + LAG])
                pixel_before.append(pixel[here])
                pixel_after.append(pixel[there])
    pictures = (len(before), *films[0].images.shape[1:])
    a, b = np.reshape(before, pictures), np.reshape(after, pictures)
    change = np.array([_largest_change(*each) for each in zip(a, b, strict=True)])
    return Pairs(a, b, np.reshape(pixel_before, (-1, 2)), np.reshape(pixel_after, (-1, 2)), change)


def fit(pairs: Pairs) -> float:
    """Share of the change around the end effector that is explained by a patch moving as the projection does.

    Of each pair: squared difference of the patch at the old place, minus that of the patch moved along; summed, over
    the largest changes that patches of these pictures have.
    """
    radius = _radius(pairs.before)
    explained, change = 0.0, 1e-9
    for a, b, here, there, most in zip(*pairs, strict=True):
        patch, stayed, moved = _patch(a, here, radius), _patch(b, here, radius), _patch(b, there, radius)
        if patch is not None and stayed is not None and moved is not None:
            explained += float(((patch - stayed) ** 2).sum() - ((patch - moved) ** 2).sum())
            change += float(most)
    return explained / change


def _radius(images: Float[np.ndarray, "n h w"]) -> int:
    return max(2, images.shape[1] // 16)


def _largest_change(a: Float[np.ndarray, "h w"], b: Float[np.ndarray, "h w"]) -> float:
    side = 2 * _radius(a[None]) + 1
    total = ((a - b) ** 2).cumsum(0).cumsum(1)
    total = np.pad(total, ((1, 0), (1, 0)))
    boxes = total[side:, side:] - total[:-side, side:] - total[side:, :-side] + total[:-side, :-side]
    return float(boxes.max())


def _patch(
    image: Float[np.ndarray, "h w"], pixel: Float[np.ndarray, "2"], radius: int
) -> Float[np.ndarray, "side side"] | None:
    """The square around a pixel; None where it is not all inside the image."""
    column, row = np.floor(pixel).astype(int)
    if min(row, column) < radius or row + radius >= image.shape[0] or column + radius >= image.shape[1]:
        return None
    return image[row - radius : row + radius + 1, column - radius : column + radius + 1]


def _spread(episodes: Sequence[Episode], count: int) -> list[Episode]:
    """At most `count` episodes, evenly spaced."""
    return list(episodes[:: max(1, -(-len(episodes) // count))])
