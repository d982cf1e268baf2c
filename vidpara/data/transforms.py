"""Changes of a clip that keep image, camera and labels in agreement."""

from __future__ import annotations

import torch

from vidpara.geometry.camera import inside, translate, translate_camera
from vidpara.types import Batch


def shift(clip: Batch, down: int, right: int, factor: int) -> Batch:
    """Move the image content of one (unbatched) clip by whole latent cells; edges are repeated.

    The principal point and the pixels move with the content, the world does not. Steps whose end effector leaves the
    image become invalid. `factor` is pixels a cell.
    """
    rows, columns = clip.latents.shape[-2:]
    pixel = clip.actions.pixel + factor * torch.tensor([right, down], dtype=torch.float32)
    valid = clip.actions.valid & inside(pixel, rows * factor, columns * factor)
    return clip._replace(
        latents=translate(clip.latents, right, down),
        camera=translate_camera(clip.camera, factor * right, factor * down),
        actions=clip.actions._replace(pixel=pixel, valid=valid),
    )


def random_shift(clip: Batch, cells: int, factor: int) -> Batch:
    """`shift` by up to `cells` in each direction, drawn from torch's random state."""
    down, right = torch.randint(-cells, cells + 1, (2,)).tolist()
    return shift(clip, down, right, factor)
