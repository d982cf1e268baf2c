"""The table from above, as the camera sees it: what maps of positions are drawn on."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from vidpara.data.episode import Episode
from vidpara.geometry.camera import project
from vidpara.types import Float, UInt8

EPISODES = 25
"""First frames whose median is taken: what stands elsewhere in each of them is not in it."""
AROUND, BELOW = 0.5, 0.02
"""Metres around all grasps (they may lie on one side of the table), and from the lowest end effector down to it."""
STEP = 0.003
"""Metres a pixel."""
RANGE, KEY = "x low, y low, x high, y high (metres)", "rollouts"
"""What the file says beside its pixels."""


class Tabletop(NamedTuple):
    """Rows go along x, columns along y; pixels that the camera does not see are transparent. `key` is the rollouts'."""

    image: UInt8[np.ndarray, "x y 4"]
    low: tuple[float, float]
    high: tuple[float, float]
    key: str = ""


def tabletop(episodes: Sequence[Episode]) -> Tabletop:
    """The plane just below the lowest end effector, from the frames of the first episode's camera."""
    acting = [episode for episode in episodes if episode.labelled]
    camera, size = acting[0].camera, acting[0].image_size
    alike = [each for each in acting if each.image_size == size and _same(each, acting[0])][:EPISODES]
    picture = np.median([each.images([0])[0] for each in alike], axis=0)
    grasps = torch.stack([each.grasp for each in acting])
    low, high = grasps.amin(0) - AROUND, grasps.amax(0) + AROUND
    height = min(float(each.position[:, 2].min()) for each in acting) - BELOW
    along = [torch.arange(float(low[i]), float(high[i]), STEP) for i in (0, 1)]
    x, y = torch.meshgrid(along[0], along[1], indexing="ij")
    pixel = project(torch.stack([x, y, torch.full_like(x, height)], dim=-1), camera)
    sampled, seen = _sampled(picture, pixel)
    image = np.dstack([sampled, np.where(seen, 255, 0)]).astype(np.uint8)
    return Tabletop(image, (float(low[0]), float(low[1])), (float(high[0]), float(high[1])))


def encoded(found: Tabletop) -> bytes:
    """As PNG that says which part of the table it is; `read` reads it back."""
    said, buffer = PngInfo(), io.BytesIO()
    said.add_text(RANGE, json.dumps([round(value, 4) for value in (*found.low, *found.high)]))
    said.add_text(KEY, found.key)
    Image.fromarray(found.image).save(buffer, format="PNG", pnginfo=said, optimize=True)
    return buffer.getvalue()


def read(file: Path) -> Tabletop | None:
    """None if there is no such file."""
    if not file.is_file():
        return None
    with Image.open(file) as image:
        x_low, y_low, x_high, y_high = json.loads(image.info[RANGE])
        return Tabletop(np.asarray(image.convert("RGBA")), (x_low, y_low), (x_high, y_high), image.info[KEY])


def _same(a: Episode, b: Episode) -> bool:
    return all(torch.equal(one, other) for one, other in zip(a.camera, b.camera, strict=True))


def _sampled(
    picture: Float[np.ndarray, "h w 3"], pixel: Float[torch.Tensor, "x y 2"]
) -> tuple[Float[np.ndarray, "x y 3"], np.ndarray]:
    """The picture's colours at these pixels (bilinear), and whether they lie in it."""
    rows, columns = picture.shape[:2]
    unit = 2 * pixel / torch.tensor([columns, rows]) - 1
    colours = torch.from_numpy(picture).float().permute(2, 0, 1)[None]
    found = F.grid_sample(colours, unit[None].nan_to_num(9.0), align_corners=False, padding_mode="border")[0]
    return found.permute(1, 2, 0).numpy(), (unit.abs() <= 1).all(-1).numpy()
