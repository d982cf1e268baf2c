"""Videos of episodes: what the camera saw, where the policy expected the end effector, and how far it came."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from PIL import Image, ImageDraw, ImageFont

from vidpara.evaluation.rollout import CLOSED, EpisodeResult, Frame, Outcome
from vidpara.evaluation.video import overlay, read_mp4, write_mp4
from vidpara.geometry.camera import project
from vidpara.types import Camera, Float, UInt8

SIZE = 384
"""Rows and columns of an episode's video; camera images are enlarged to it."""
FPS = 10
HOLD = 12
"""Times that the last frame is shown."""
CELL, SMALL_CELL, BORDER = 256, 144, 8
"""Pixels of one episode in the grid video, of one among more than `FEW`, and of its coloured border on each side."""
FEW = 12
GRID_CRF, CRF = 30, 24
COLORS: dict[Outcome, tuple[int, int, int]] = {
    "PLACE": (46, 160, 67),
    "GRASP": (217, 145, 24),
    "MISS": (208, 60, 60),
}
TIME = colormaps["cool"]
OVERSAMPLE = 2
"""Lines and circles are drawn this much larger and shrunk, because Pillow does not smooth them."""


def path(output: Path, index: int) -> Path:
    """Where the video of an episode of the results file `output` is."""
    return output.with_suffix("") / f"episode_{index:03d}.mp4"


def grid_path(output: Path) -> Path:
    """Where the grid video of the results file `output` is."""
    return output.with_suffix("") / "grid.mp4"


def failures_path(output: Path) -> Path:
    """Where the grid video of the failures is, first those that never lifted the object."""
    return output.with_suffix("") / "failures.mp4"


def older(film: Path, recordings: Sequence[Path]) -> bool:
    """Whether a film is missing or was written before one of its recordings."""
    return not film.is_file() or film.stat().st_mtime < max(file.stat().st_mtime for file in recordings)


def write_episode(target: Path, result: EpisodeResult) -> None:
    """One recorded episode: `len(result.frames)` frames, then the last one `HOLD` times with the outcome."""
    images = [draw(frame, _caption(frame)) for frame in result.frames]
    last = draw(result.frames[-1], f"{result.outcome} after {result.steps} steps", COLORS[result.outcome])
    write_mp4(target, [*images, *[last] * HOLD], FPS, CRF)


def draw(
    frame: Frame, caption: str, banner: tuple[int, int, int] = (16, 16, 20)
) -> UInt8[np.ndarray, "h w 3"]:
    """One frame at `SIZE`: the heatmap of the coming point, the plan as a line of points, and a caption.

    Points run from cyan (next) to magenta (last) and are filled where the gripper is to be closed; a ring marks the
    coming one.
    """
    size = SIZE * OVERSAMPLE
    image = Image.fromarray(frame.observation.image.numpy()).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    heated = overlay(np.asarray(image), frame.chunk.heatmap[frame.point])
    canvas = Image.fromarray(heated).resize((size, size), Image.Resampling.NEAREST)
    pen = ImageDraw.Draw(canvas)
    pixels = _pixels(frame) * OVERSAMPLE
    seen = [(float(u), float(v)) for u, v in pixels if math.isfinite(u) and math.isfinite(v)]
    if len(seen) > 1:
        pen.line(seen, fill=(255, 255, 255), width=2 * OVERSAMPLE, joint="curve")
    for index in reversed(range(len(pixels))):
        u, v = (float(value) for value in pixels[index])
        if not (math.isfinite(u) and math.isfinite(v)):
            continue
        color = tuple(int(255 * c) for c in TIME(index / max(1, len(pixels) - 1))[:3])
        radius = 4.5 * OVERSAMPLE
        fill = color if float(frame.chunk.gripper[index]) > CLOSED else (16, 16, 20)
        pen.ellipse(
            (u - radius, v - radius, u + radius, v + radius), fill=fill, outline=color, width=2 * OVERSAMPLE
        )
        if index == frame.point:
            radius = 8 * OVERSAMPLE
            pen.ellipse(
                (u - radius, v - radius, u + radius, v + radius), outline=(255, 255, 255), width=OVERSAMPLE
            )
    shown = canvas.reduce(OVERSAMPLE)
    pen = ImageDraw.Draw(shown)
    pen.rectangle((0, SIZE - 24, SIZE, SIZE), fill=banner)
    pen.text((9, SIZE - 12), caption, fill=(255, 255, 255), font=ImageFont.load_default(14), anchor="lm")
    return np.asarray(shown)


def write_grid(target: Path, episodes: Sequence[tuple[Path, Outcome, str]], columns: int = 0) -> None:
    """Recorded episodes (file, outcome, label) side by side, each with a border in the colour of its outcome.

    Shorter episodes stay on their last frame. Without `columns` the grid is about as wide as high.
    """
    size = CELL if len(episodes) <= FEW else SMALL_CELL
    clips = [[_shrink(image, size) for image in read_mp4(episode)] for episode, _, _ in episodes]
    if not columns:
        columns = len(clips) if len(clips) <= 3 else math.ceil(math.sqrt(len(clips)))
    rows = math.ceil(len(clips) / columns)
    blank = np.full((size + 2 * BORDER, size + 2 * BORDER, 3), 16, np.uint8)

    def cell(index: int, moment: int) -> UInt8[np.ndarray, "h w 3"]:
        if index >= len(clips):
            return blank
        _, outcome, label = episodes[index]
        return _frame_in(clips[index][min(moment, len(clips[index]) - 1)], outcome, label)

    def images() -> Iterator[UInt8[np.ndarray, "h w 3"]]:
        for moment in range(max(len(clip) for clip in clips)):
            cells = [cell(index, moment) for index in range(rows * columns)]
            yield np.concatenate(
                [np.concatenate(cells[row * columns : (row + 1) * columns], axis=1) for row in range(rows)]
            )

    write_mp4(target, images(), FPS, GRID_CRF)


def _caption(frame: Frame) -> str:
    return f"step {frame.step}{'   lifted' if frame.lifted else ''}"


def _pixels(frame: Frame) -> Float[np.ndarray, "a 2"]:
    """Pixels, at `SIZE`, of the planned points; NaN for a point behind the camera."""
    camera = frame.observation.camera
    points = frame.chunk.position
    every = Camera(*(matrix.expand(len(points), *matrix.shape) for matrix in camera))
    rows, columns = frame.observation.image.shape[:2]
    return project(points.to(camera.intrinsics.dtype), every).numpy() * (SIZE / columns, SIZE / rows)


def _shrink(image: UInt8[np.ndarray, "h w 3"], size: int) -> UInt8[np.ndarray, "size size 3"]:
    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.LANCZOS))


def _frame_in(
    image: UInt8[np.ndarray, "size size 3"], outcome: Outcome, label: str
) -> UInt8[np.ndarray, "side side 3"]:
    """The image in a border of the outcome's colour, with its name and the label."""
    side = image.shape[0] + 2 * BORDER
    framed = Image.new("RGB", (side, side), COLORS[outcome])
    text = f"{label} {outcome}".strip()
    framed.paste(Image.fromarray(image), (BORDER, BORDER))
    pen = ImageDraw.Draw(framed)
    font = ImageFont.load_default(13)
    pen.rectangle((0, 0, BORDER + pen.textlength(text, font) + 8, 20), fill=COLORS[outcome])
    pen.text((BORDER, 10), text, fill=(255, 255, 255), font=font, anchor="lm")
    return np.asarray(framed)
