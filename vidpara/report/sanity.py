"""Do the numbers in the files and the pixels in the frames agree? Drawn, and measured.

Every demo's end effector is projected into its frames, encoded as the head's target, decoded and lifted back. The
difference to the recorded point is the quantisation of the heatmap grid and height bins, and nothing more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageDraw

from vidpara.cli import UserError
from vidpara.config import CheckConfig, ClipConfig, HeadConfig
from vidpara.data.episode import Episode
from vidpara.data.finding import Finding
from vidpara.evaluation.video import write_mp4
from vidpara.geometry.camera import lift, meets, project
from vidpara.heads.pixel import PixelHead
from vidpara.types import Camera, Float, Tensor, UInt8

COLUMNS = 6
"""Frames of an episode that are shown in a row."""
TOGETHER = 64
"""Frames that are read at once."""
HEIGHT = 384
"""Rows up to which pictures are enlarged, by a whole number."""
GEOMETRY, ROUNDING = 1e-4, 0.501
"""Metres that the geometry may lose, and cells and bins that rounding may."""
NOW, TARGET, LIFTED = (255, 255, 255), (80, 220, 100), (255, 70, 70)


class RoundTrip(NamedTuple):
    """Recorded point -> target -> lifted point, over all frames of all demos in which both rays, the recorded point's
    and the rounded one's, fix a point (metres; cells; bins).
    """

    exact: float
    """Largest error without rounding: the geometry's own, which must be that of float32."""
    median: float
    worst: float
    """Error of the rounded target: one cell and one height bin, as plain argmax decodes it."""
    cells: float
    bins: float
    """Largest distance of the rounded point from the recorded one on each axis; at most a half."""
    apart: int
    """Frames in view of which a ray runs along the plane of its height, or away from it: of low cameras."""


def round_trip(episodes: Sequence[Episode], head: PixelHead) -> RoundTrip | None:
    """Measure what encoding and decoding lose; nothing where no frame shows the end effector."""
    exact, rounded, cells, bins, apart = [], [], [], [], 0
    for episode in episodes:
        camera = _batched(episode.camera)
        cell, height = head.to_cell(episode.pixel), head.heights.coordinate(episode.position[:, 2])
        fixed = fixes(head, cell, height, camera) & fixes(head, cell.round(), height.round(), camera)
        used = episode.in_view & fixed
        position, cell, height = episode.position[used], cell[used], height[used]
        exact.append((decode(head, cell, height, camera) - position).norm(dim=-1))
        rounded.append((decode(head, cell.round(), height.round(), camera) - position).norm(dim=-1))
        cells.append((cell - cell.round()).abs().amax(-1))
        bins.append((height - height.round()).abs())
        apart += int((episode.in_view & ~fixed).sum())
    error = torch.cat(rounded)
    if not len(error):
        return None
    return RoundTrip(
        float(torch.cat(exact).max()),
        float(error.median()),
        float(error.max()),
        float(torch.cat(cells).max()),
        float(torch.cat(bins).max()),
        apart,
    )


def judge(error: RoundTrip | None, head: HeadConfig) -> Finding:
    """Whether the round trip loses no more than rounding to cells and bins must."""
    if error is None:
        return Finding(
            "round trip", "left out", "no frame shows the end effector where pixel and height fix a point"
        )
    found = (
        f"recorded point -> target -> lifted point: geometry {error.exact * 1e3:.3f} mm; rounded to {head.grid[0]} x "
        f"{head.grid[1]} cells x {head.height_bins} heights median {error.median * 100:.2f} cm, largest "
        f"{error.worst * 100:.2f} cm ({error.cells:.2f} cells, {error.bins:.2f} bins)"
    )
    if error.apart:
        found += f"; without {error.apart} frames in which pixel and height fix no point"
    if error.exact > GEOMETRY or max(error.cells, error.bins) > ROUNDING:
        return Finding("round trip", "error", found, "the camera or the poses in the file are wrong")
    return Finding("round trip", "ok", found)


def fixes(head: PixelHead, cell: Float[Tensor, "n 2"], height: Float[Tensor, "n"], camera: Camera) -> Tensor:
    """Whether each heatmap cell and height-bin coordinate fix a point that `decode` can give."""
    return meets(head.to_pixel(cell), head.heights.value(height), camera)


def decode(head: PixelHead, cell: Float[Tensor, "n 2"], height: Float[Tensor, "n"], camera: Camera) -> Tensor:
    """World points (metres) of heatmap cells and height-bin coordinates."""
    return lift(head.to_pixel(cell), head.heights.value(height), camera)


def frames(episode: Episode, head: PixelHead, clip: ClipConfig) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    """Every frame with the end effector (white), the clip's targets (green) and the lifted rounded ones (red)."""
    camera = _batched(episode.camera)
    cell = head.to_cell(episode.pixel).round()
    height = head.heights.coordinate(episode.position[:, 2]).round()
    shown = episode.in_view & fixes(head, cell, height, camera)
    lifted = torch.zeros_like(episode.pixel)
    lifted[shown] = project(decode(head, cell[shown], height[shown], camera), camera)
    scale = _scale(episode)
    for now, image in enumerate(_one_by_one(episode)):
        picture = Image.fromarray(image.repeat(scale, 0).repeat(scale, 1))
        draw = ImageDraw.Draw(picture)
        future = (now + torch.arange(1, clip.frames) * clip.stride).clamp_max(len(episode) - 1)
        for t in future.tolist():
            closed = bool(episode.gripper[t] > 0.5)
            _dot(draw, scale * episode.pixel[t], TARGET, 4, closed)
            if shown[t]:
                _dot(draw, scale * lifted[t], LIFTED, 2, closed)
        _dot(draw, scale * episode.pixel[now], NOW, 5, bool(episode.gripper[now] > 0.5))
        yield np.asarray(picture)


def draw(episodes: Sequence[Episode], head: PixelHead | None, config: CheckConfig) -> list[Path]:
    """In `config.output` a sheet of frames for each of their sizes, the first episodes of each source in rows; films of
    those with labels.
    """
    rows, films, named = [], [], Counter[str]()
    for source in dict.fromkeys(episode.source for episode in episodes):
        named[source.stem] += 1
        name = source.stem if named[source.stem] == 1 else f"{source.stem} ({named[source.stem]})"
        for episode in [each for each in episodes if each.source == source][: config.demos]:
            try:
                rows.append(plain_frames(episode, COLUMNS))
                if head is not None and episode.labelled:
                    film = config.output / f"{name} {episode.name}.mp4".replace("/", " ")
                    rows[-1] = _film(film, frames(episode, head, config.data.clip), episode)
                    films.append(film)
            except UserError as error:
                print(f"no picture: {error}")
    of_size = [
        [row for row in rows if row[0].shape == size] for size in dict.fromkeys(row[0].shape for row in rows)
    ]
    sheets = [config.output / f"sheet{f' {number}' if number else ''}.png" for number in range(len(of_size))]
    for path, together in zip(sheets, of_size, strict=True):
        Image.fromarray(sheet(together, COLUMNS)).save(path)
    return [*sheets, *films]


def _film(
    target: Path, drawn: Iterable[UInt8[np.ndarray, "h w 3"]], episode: Episode
) -> list[UInt8[np.ndarray, "h w 3"]]:
    """Write the film of an episode; of its pictures those that a row shows."""
    shown: list[UInt8[np.ndarray, "h w 3"]] = []

    def even() -> Iterator[UInt8[np.ndarray, "h w 3"]]:
        for number, picture in enumerate(drawn):
            if number % _apart(episode, COLUMNS) == 0:
                shown.append(picture)
            height, width = (side // 2 * 2 for side in picture.shape[:2])  # H.264 takes even sizes
            yield picture[:height, :width]

    write_mp4(target, even(), round(episode.rate), 24)
    return shown


def plain_frames(episode: Episode, count: int) -> list[UInt8[np.ndarray, "h w 3"]]:
    """At most `count` frames, evenly spaced, with nothing drawn on them."""
    images, scale = episode.images(range(0, len(episode), _apart(episode, count))), _scale(episode)
    return list(images.repeat(scale, 1).repeat(scale, 2))


def sheet(rows: Sequence[Sequence[UInt8[np.ndarray, "h w 3"]]], columns: int) -> UInt8[np.ndarray, "h2 w2 3"]:
    """Rows of pictures of one size, filled up with black."""
    blank = np.zeros_like(rows[0][0])
    return np.concatenate([np.concatenate([*row, *[blank] * (columns - len(row))], axis=1) for row in rows])


def _one_by_one(episode: Episode) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    """All images of an episode, some in memory at a time."""
    for images in episode.blocks(TOGETHER):
        yield from images


def _apart(episode: Episode, count: int) -> int:
    """Frames from one to the next of at most `count` that are evenly spaced."""
    return max(1, -(-len(episode) // count))


def _scale(episode: Episode) -> int:
    return max(1, HEIGHT // episode.image_size[0])


def _batched(camera: Camera) -> Camera:
    return Camera(camera.intrinsics[None], camera.world_from_camera[None])


def _dot(
    draw: ImageDraw.ImageDraw, pixel: Float[Tensor, "2"], color: tuple[int, int, int], size: int, fill: bool
) -> None:
    u, v = pixel.tolist()
    draw.ellipse((u - size, v - size, u + size, v + size), outline=color, fill=color if fill else None)
