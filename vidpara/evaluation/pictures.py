"""Strips and clip videos drawn from tensors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from PIL import Image, ImageDraw

from vidpara.evaluation.video import overlay, write_mp4
from vidpara.types import Float, Tensor, UInt8

SCALE = 2
TRUE, PREDICTED = (80, 220, 100), (255, 70, 70)


def strip(
    frames: Float[Tensor, "b t 3 h w"],
    heatmap: Float[Tensor, "b a h2 w2"],
    predicted: Float[Tensor, "b a 2"],
    true: Float[Tensor, "b a 2"],
    path: Path,
) -> None:
    """A row a clip, a column a moment: the frame under its heatmap, true end effector green, predicted red."""
    rows = []
    for b in range(len(frames)):
        cells = [to_image(frames[b, 0], SCALE)]
        for a in range(heatmap.shape[1]):
            picture = Image.fromarray(overlay(to_image(frames[b, a + 1], SCALE), heatmap[b, a]))
            draw = ImageDraw.Draw(picture)
            _cross(draw, true[b, a] * SCALE, TRUE)
            _cross(draw, predicted[b, a] * SCALE, PREDICTED)
            cells.append(np.asarray(picture))
        rows.append(np.concatenate(cells, axis=1))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate(rows, axis=0)).save(path)


def clip_video(
    true: Float[Tensor, "b t 3 h w"], generated: Float[Tensor, "b t 3 h w"], path: Path, fps: int = 4
) -> None:
    """True clips above, generated ones below, side by side over the batch."""
    both = rearrange(torch.stack([true, generated]), "two b t c h w -> t c (two h) (b w)")
    write_mp4(path, [to_image(frame, SCALE) for frame in both], fps, 20)


def to_image(frame: Float[Tensor, "3 h w"], scale: int = 1) -> UInt8[np.ndarray, "h2 w2 3"]:
    """[-1, 1] floats -> uint8, enlarged without smoothing."""
    image = ((frame.float().cpu().clamp(-1, 1) + 1) * 127.5).byte().permute(1, 2, 0).numpy()
    return image.repeat(scale, 0).repeat(scale, 1)


def _cross(
    draw: ImageDraw.ImageDraw, at: Float[Tensor, "2"], color: tuple[int, int, int], size: int = 4
) -> None:
    u, v = at.tolist()
    draw.line((u - size, v, u + size, v), fill=color, width=2)
    draw.line((u, v - size, u, v + size), fill=color, width=2)
