"""Whether the pictures can be decoded, show something, and change while the end effector moves."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from vidpara.cli import UserError
from vidpara.data.episode import Episode
from vidpara.data.finding import Finding
from vidpara.types import Bool, Float

BLOCK = 16
"""Frames that are decoded at once: whole videos do not fit in memory."""
MOVED, STOOD, REPEATED = 1.0, 0.1, 0.2
"""Pixels that the projected end effector moves in a picture that should differ from the one before, rows of the image
(as a share of all) that it may move before one picture, and share of repeated pictures that is worth a word."""


class Decoded(NamedTuple):
    """An episode that was decoded to its end."""

    episode: Episode
    repeated: Bool[np.ndarray, "T"]
    """Pictures that equal the one before."""
    plain: bool
    """Whether no picture has more than one colour."""


def decode(episodes: Sequence[Episode]) -> tuple[list[Decoded], Finding]:
    """Decode episodes to their last frames: those that can be read, and what is wrong with the others."""
    whole, wrong = [], []
    for episode in episodes:
        try:
            whole.append(_decoded(episode))
        except UserError as error:
            wrong.append(f"{episode.name}: {error}")
    found = f"{len(whole)} of {len(episodes)} episodes decoded to the end"
    if wrong:
        fix = "write these episodes again, one pose for every frame, or leave them out"
        return whole, Finding("frames", "error", f"{found}; {'; '.join(wrong)}", fix)
    return whole, Finding("frames", "ok", found)


def _decoded(episode: Episode) -> Decoded:
    """
    Raises:
        UserError: frames cannot be read, or are not as many as the poses.
    """
    repeated, plain, before = np.zeros(len(episode), bool), True, None
    count = 0
    for image in itertools.chain.from_iterable(episode.blocks(BLOCK)):
        repeated[count] = before is not None and np.array_equal(image, before)
        plain, before, count = plain and bool((image == image[0, 0]).all()), image, count + 1
    if count != len(episode):
        raise UserError(f"{count} frames for {len(episode)} poses")
    return Decoded(episode, repeated, plain)


def pictures(decoded: Sequence[Decoded]) -> Finding:
    """Pictures that show nothing, or stand still while the end effector moves in them."""
    hung = "was the camera on, and did it hang? leave these episodes out"
    plain = [each.episode.name for each in decoded if each.plain]
    still = [each.episode.name for each in decoded if len(each.repeated) > 1 and each.repeated[1:].all()]
    for names, showing in ((plain, "pictures of one colour"), (still, "one picture all along")):
        if names:
            found = f"{len(names)} of {len(decoded)} episodes show {showing}, first {names[0]}"
            return Finding("pictures", "error", found, hung)
    gone, at = max(_gone_before_one_picture(each) for each in decoded)
    if gone > STOOD:
        found = f"the picture stands still while the end effector crosses {gone:.0%} of it: {at}"
        return Finding("pictures", "error", found, hung)
    share, name = max((_repeated(each), each.episode.name) for each in decoded)
    if share > REPEATED:
        found = f"{share:.0%} of the pictures of {name} repeat the one before while the end effector moves"
        fix = "is the camera slower than the poses? --data.fps takes fewer moments"
        return Finding("pictures", "warning", found, fix)
    return Finding("pictures", "ok", "they change from frame to frame")


def _moved(episode: Episode) -> Float[np.ndarray, "n"]:
    """Pixels that the projected end effector moves from every frame to the next, as far as it is seen."""
    seen = episode.in_view[1:] & episode.in_view[:-1]
    return (episode.pixel.diff(dim=0).norm(dim=-1) * seen).numpy()


def _gone_before_one_picture(each: Decoded) -> tuple[float, str]:
    """How far the end effector goes, at most, while the picture stays (of the image's rows), and until when."""
    most, gone, at = 0.0, 0.0, ""
    for frame, (moved, still) in enumerate(
        zip(_moved(each.episode), each.repeated[1:], strict=True), start=1
    ):
        gone = gone + float(moved) if still else 0.0
        if gone > most:
            most, at = gone, f"{each.episode.name} until frame {frame}"
    return most / each.episode.image_size[0], at


def _repeated(each: Decoded) -> float:
    """Share of pictures that repeat the one before, of those in which the end effector has moved."""
    moving = _moved(each.episode) >= MOVED
    return float(each.repeated[1:][moving].mean()) if moving.any() else 0.0
