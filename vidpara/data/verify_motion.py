"""Pixels against numbers, through motion.

Around the end effector the image moves as the projected end effector does; so if image, poses and camera belong
together, a patch there is found again where the projection goes. Turned, mirrored or shifted images, a wrong camera and
wrong poses all break that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch

from vidpara.data.episode import Episode
from vidpara.data.finding import Finding
from vidpara.geometry.camera import resize_images
from vidpara.types import Bool, Float

HERTZ = 20
"""Pictures a second that are looked at, about, where there are more."""
LAGS = (3, 6, 12, 24)
"""Pictures between the two of a pair: the first with which there are enough pairs, or a tenth of all, since arms are
slow and fast."""
MOVED = 3.0
"""Pixels that the projected end effector must move for a pair to say something, at 128 rows."""
GOES_ALONG = 0.04
"""Share of the motion that must go with the end effector. Our own rollouts give 0.12, with a camera off by a thirtieth
of the image 0.03 and less, unless it is off towards the arm, which moves alike."""
SHIFTS = range(-10, 11)
"""Pictures by which poses may be late or early."""
CLEAR = 1.5
"""How much better another moment's poses must fit to be named: at 64 rows and fewer those of the fingers, some frames
earlier, fit as well as those of the point between them."""
ROWS, LONGEST, BLOCK = 128, 300, 16
"""Rows that larger pictures are reduced to, pictures of an episode that count, and how many are read at once."""
ENOUGH = 50
"""Pairs of pictures without which nothing is called wrong."""
SURE, LIKELY = 3.0, 1.0
"""Standard errors by which one fit must be better than another, or worse than it should be, to be an error; and to be
named where the pictures as they are do not fit."""


class Film(NamedTuple):
    """Every `stride`-th frame of an episode: grey pictures in [0, 1], the projected end effector (u, v), whether it is
    seen.
    """

    images: Float[np.ndarray, "t h w"]
    pixel: Float[np.ndarray, "t 2"]
    seen: Bool[np.ndarray, "t"]
    stride: int = 1


class Fit(NamedTuple):
    """Share of the motion that is explained, its standard error over the pairs of pictures, and how many these are."""

    share: float
    error: float
    pairs: int

    def beats(self, other: Fit, factor: float = 1.0, sure: float = SURE) -> bool:
        """Whether it is surely more than `factor` times the other, which counts as none where it is less: there only
        what it may be above nothing is in doubt.
        """
        none_or_more = max(other.share, 0.0)
        at_most = max(other.share + sure * other.error, 0.0)
        doubt = float(np.hypot(sure * self.error, factor * (at_most - none_or_more)))
        return self.share - factor * none_or_more > doubt

    def __str__(self) -> str:
        return f"{self.share:.0%} (± {self.error:.0%})"


class Pairs(NamedTuple):
    """Pairs of grey pictures, and the projected end effector (u, v) in each, before and after some frames."""

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


def check(episodes: Sequence[Episode]) -> Iterator[Finding]:
    """Orientation, clock and camera of labelled episodes."""
    films = [film(episode) for episode in episodes if episode.image_size == episodes[0].image_size]
    lag = _lag(films)
    pairs = motion_pairs(films, lag)
    if not len(pairs.before):
        for name in ("orientation", "clock"):
            yield Finding(name, "left out", "no picture shows the end effector before and after a motion")
        seen = any(each.seen.any() for each in films)
        found = "hardly moves in the pictures" if seen else "is projected outside all pictures"
        yield Finding("camera", "warning", f"the end effector {found}", "look at the sheet")
        return
    yield orientation(pairs)
    yield clock(films, lag)
    yield camera(pairs)


def orientation(pairs: Pairs) -> Finding:
    """All eight flips and rotations of the pictures, scored by how well they move with the projected end effector."""
    fits = {
        name: fit(pairs._replace(before=turn(pairs.before), after=turn(pairs.after)))
        for name, turn in TURNS.items()
    }
    stored = fits.pop("as they are")
    best = max(fits, key=lambda name: fits[name].share)
    found = f"the pictures move with the numbers when they are {best}: {fits[best]}, as they are {stored}"
    fix = f"store the pictures {best}"
    if fits[best].share >= GOES_ALONG and fits[best].beats(stored):
        return judged("orientation", found, fix, [fits[best], stored])
    if fits[best].share >= GOES_ALONG > stored.share and fits[best].beats(stored, sure=LIKELY):
        return Finding("orientation", "warning", f"perhaps {found}", f"look at them: {fix}?")
    found = (
        f"no flip or rotation of the pictures moves better with the numbers: as they are {stored}, {best} "
    )
    return Finding("orientation", "ok", f"{found}{fits[best]}")


def clock(films: Sequence[Film], lag: int = LAGS[0]) -> Finding:
    """Whether the pictures move with poses of another moment."""
    fits = {shift: fit(motion_pairs(films, lag, shift)) for shift in SHIFTS}
    best = max(fits, key=lambda shift: fits[shift].share)
    found = f"{fits[0]} of the motion goes with the poses of the same frame"
    if fits[best].share < GOES_ALONG or not fits[best].beats(fits[0], CLEAR):
        return Finding("clock", "ok", found)
    frames = abs(best) * films[0].stride
    found += f", {fits[best]} with those of {frames} frames {'later' if best > 0 else 'earlier'}"
    fix = "pictures and poses are recorded with a delay between them; shift one of them by about that many frames"
    return judged("clock", found, fix, [fits[best], fits[0]])


def camera(pairs: Pairs) -> Finding:
    """Whether the picture moves with the end effector where it is projected."""
    along = fit(pairs)
    found = f"{along} of the motion in the picture goes with the end effector where it is projected"
    if along.share >= GOES_ALONG:
        return Finding("camera", "ok", found)
    fix = (
        "check the camera's intrinsics (of which image size?) and pose, which point of the hand the poses are of, and "
        "whether every picture is of its row's moment"
    )
    if along.share + SURE * along.error >= GOES_ALONG:
        return Finding("camera", "warning", found, fix)
    return judged("camera", found, fix, [along])


def judged(check: str, found: str, fix: str, fits: Sequence[Fit]) -> Finding:
    """An error, if there is enough to see."""
    least = min(each.pairs for each in fits)
    if least >= ENOUGH:
        return Finding(check, "error", found, fix)
    return Finding(check, "warning", f"{found}; but {least} pairs of pictures are too few to be sure", fix)


def film(episode: Episode) -> Film:
    """An episode's pictures in grey, and where its end effector is projected."""
    stride = max(1, round(episode.rate / HERTZ)) if len(episode) > 1 else 1
    moments, (rows, columns) = range(0, len(episode), stride)[:LONGEST], episode.image_size
    size = (rows, columns) if rows <= ROWS else (ROWS, max(1, round(columns * ROWS / rows)))
    grey = np.empty((len(moments), *size), np.float32)
    for number, images in enumerate(episode.blocks(BLOCK, moments)):
        small = resize_images(torch.from_numpy(images), size).numpy()
        grey[number * BLOCK :][: len(small)] = small.mean(-1, dtype=np.float32) / 255
    pixel = episode.pixel[moments].numpy() * [size[1] / columns, size[0] / rows]
    return Film(grey, pixel, episode.in_view[moments].numpy(), stride)


def motion_pairs(films: Sequence[Film], lag: int = LAGS[0], shift: int = 0) -> Pairs:
    """Pairs of pictures, `lag` apart, between which the projected end effector has moved; with `shift` the poses are
    taken from so many pictures later.
    """
    before, after, pixel_before, pixel_after = [], [], [], []
    for each in films:
        for now in _moving(each, lag, shift):
            before.append(each.images[now])
            after.append(each.images[now + lag])
            pixel_before.append(each.pixel[now + shift])
            pixel_after.append(each.pixel[now + lag + shift])
    pictures = (len(before), *films[0].images.shape[1:])
    a, b = np.reshape(before, pictures), np.reshape(after, pictures)
    change = np.array([_largest_change(*each) for each in zip(a, b, strict=True)])
    return Pairs(a, b, np.reshape(pixel_before, (-1, 2)), np.reshape(pixel_after, (-1, 2)), change)


def _moving(film: Film, lag: int, shift: int = 0) -> list[int]:
    """First pictures of pairs between which the projected end effector moves, and is seen before and after."""
    _, pixel, seen, _ = film
    least = MOVED * film.images.shape[1] / 128
    return [
        now
        for now in range(max(0, -shift), len(pixel) - lag - max(0, shift), lag)
        if seen[now + shift]
        and seen[now + lag + shift]
        and np.linalg.norm(pixel[now + lag + shift] - pixel[now + shift]) >= least
    ]


def _lag(films: Sequence[Film]) -> int:
    """The first of `LAGS` with enough pairs, or the one with most."""
    pairs = {lag: sum(len(_moving(film, lag)) for film in films) for lag in LAGS}
    for lag, found in pairs.items():
        if found >= min(ENOUGH, sum(len(film.pixel) // lag for film in films) / 10):
            return lag
    return max(LAGS, key=lambda lag: pairs[lag])


def fit(pairs: Pairs) -> Fit:
    """Share of the change around the end effector that is explained by a patch moving as the projection does.

    Of each pair: squared difference of the patch at the old place, minus that of the patch moved along; summed, over
    the largest changes that patches of these pictures have. The standard error is that of a ratio of sums.
    """
    radius = _radius(pairs.before)
    explained, change = [], []
    for a, b, here, there, most in zip(*pairs, strict=True):
        patch, stayed, moved = _patch(a, here, radius), _patch(b, here, radius), _patch(b, there, radius)
        if patch is not None and stayed is not None and moved is not None:
            explained.append(((patch - stayed) ** 2).sum() - ((patch - moved) ** 2).sum())
            change.append(most)
    if not np.sum(change) > 0:
        return Fit(0.0, 1.0, 0)
    explained, change = np.array(explained), np.array(change)
    share = explained.sum() / change.sum()
    error = np.linalg.norm(explained - share * change) / change.sum()
    return Fit(float(share), float(error), len(change))


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
