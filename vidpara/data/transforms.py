"""Changes of a clip that keep image, camera and labels in agreement."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from vidpara.geometry.camera import inside
from vidpara.types import Batch


def shift(clip: Batch, down: int, right: int, factor: int) -> Batch:
    """Move the image content of one (unbatched) clip by whole latent cells; edges are repeated.

    The same as cutting another window out of a larger image: the principal point and the pixels move with the
    content, the world does not. Steps whose end effector leaves the image become invalid. `factor` is pixels a cell.
    """
    rows, columns = clip.latents.shape[-2:]
    reach = (max(right, 0), max(-right, 0), max(down, 0), max(-down, 0))
    padded = F.pad(clip.latents, reach, mode="replicate")
    top, left = max(-down, 0), max(-right, 0)
    latents = padded[..., top : top + rows, left : left + columns]
    pixels = factor * torch.tensor([right, down], dtype=torch.float32)
    intrinsics = clip.camera.intrinsics.clone()
    intrinsics[:2, 2] += pixels
    pixel = clip.actions.pixel + pixels
    valid = clip.actions.valid & inside(pixel, rows * factor, columns * factor)
    return clip._replace(
        latents=latents,
        camera=clip.camera._replace(intrinsics=intrinsics),
        actions=clip.actions._replace(pixel=pixel, valid=valid),
    )


def random_shift(clip: Batch, cells: int, factor: int) -> Batch:
    """`shift` by up to `cells` in each direction, drawn from torch's random state."""
    down, right = torch.randint(-cells, cells + 1, (2,)).tolist()
    return shift(clip, down, right, factor)
