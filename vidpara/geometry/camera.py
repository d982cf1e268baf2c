"""Pinhole cameras: project world points, lift pixels to planes, crop image and intrinsics together."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from einops import einsum
from scipy.spatial.transform import Rotation

from vidpara.geometry.precision import full_precision
from vidpara.types import Camera, Float, Tensor, UInt8

PARALLEL = 1e-3
"""Sine of the smallest angle between a ray and the plane at which they still count as meeting in a point."""


def inverse(matrix: Float[Tensor, "*b n n"]) -> Float[Tensor, "*b n n"]:
    """Without a look at whether there is one, for which the host would wait for a GPU: cameras are checked before."""
    return torch.linalg.inv_ex(matrix).inverse


@full_precision
def project(position: Float[Tensor, "*#b 3"], camera: Camera) -> Float[Tensor, "*#b 2"]:
    """Pixel (u, v) of a world point (metres). Points behind the camera give NaN, never a plausible pixel."""
    in_camera = transform(inverse(camera.world_from_camera), position)
    homogeneous = einsum(camera.intrinsics, in_camera, "... i j, ... j -> ... i")
    depth = homogeneous[..., 2:]
    return torch.where(depth > 0, homogeneous[..., :2] / depth, torch.nan)


@full_precision
def lift(
    pixel: Float[Tensor, "*#b 2"], height: Float[Tensor, "*#b"], camera: Camera
) -> Float[Tensor, "*#b 3"]:
    """Point (metres, world) where the ray through `pixel` meets the plane z = `height` (metres).

    Raises:
        ValueError: a ray does not meet it in front of the camera (`meets`).
    """
    if not bool(meets(pixel, height, camera).all()):
        raise ValueError(
            "a ray does not meet the plane of its height in front of the camera: it runs away from it, or parallel to "
            f"it (sine below {PARALLEL}), so pixel and height do not fix a point; tilt the camera down or use another"
        )
    direction = rays(pixel, camera)
    origin = camera.world_from_camera[..., :3, 3]
    along = (height - origin[..., 2]) / direction[..., 2]
    return origin + along[..., None] * direction


@full_precision
def meets(pixel: Float[Tensor, "*#b 2"], height: Float[Tensor, "*#b"], camera: Camera) -> Tensor:
    """Whether the ray through each pixel meets the plane z = `height` (metres) in a point in front of the camera."""
    upwards = rays(pixel, camera)[..., 2]
    above = height - camera.world_from_camera[..., 2, 3]
    return (upwards.abs() >= PARALLEL) & (above * upwards > 0)


@full_precision
def rays(pixel: Float[Tensor, "*#b 2"], camera: Camera) -> Float[Tensor, "*#b 3"]:
    """Unit direction (world) of the ray through each pixel."""
    homogeneous = torch.cat([pixel, torch.ones_like(pixel[..., :1])], dim=-1)
    in_camera = einsum(inverse(camera.intrinsics), homogeneous, "... i j, ... j -> ... i")
    return F.normalize(
        einsum(camera.world_from_camera[..., :3, :3], in_camera, "... i j, ... j -> ... i"), dim=-1
    )


@full_precision
def transform(a_from_b: Float[Tensor, "*#b 4 4"], point_b: Float[Tensor, "*#b 3"]) -> Float[Tensor, "*#b 3"]:
    """The same points, expressed in frame a."""
    return einsum(a_from_b[..., :3, :3], point_b, "... i j, ... j -> ... i") + a_from_b[..., :3, 3]


@full_precision
def turned(camera: Camera, axis: Float[np.ndarray, "3"], degrees: float) -> Camera:
    """The camera turned about `axis` (a unit vector in its frame) through its centre: a calibration that is wrong."""
    turn = Rotation.from_rotvec(math.radians(degrees) * axis).as_matrix()
    pose = camera.world_from_camera.clone()
    pose[..., :3, :3] = pose[..., :3, :3] @ torch.from_numpy(turn).to(pose)
    return camera._replace(world_from_camera=pose)


def inside(pixel: Float[Tensor, "*b 2"], height: int, width: int) -> Tensor:
    """Whether each pixel lies in an image of `height` x `width`; NaN is outside."""
    u, v = pixel.unbind(-1)
    return (u >= 0) & (u < width) & (v >= 0) & (v < height)


def resize_camera(camera: Camera, before: tuple[int, int], after: tuple[int, int]) -> Camera:
    """The camera of an image of `before` rows and columns that is resized to `after`."""
    scale = torch.tensor([after[1] / before[1], after[0] / before[0], 1.0]).to(camera.intrinsics)
    return camera._replace(intrinsics=scale[:, None] * camera.intrinsics)


def resize_images(images: UInt8[Tensor, "n h w 3"], size: tuple[int, int]) -> UInt8[Tensor, "n h2 w2 3"]:
    """Bilinear with antialiasing; `resize_camera` is for their camera. Images of that size are returned as they are."""
    if tuple(images.shape[1:3]) == size:
        return images
    channels_first = images.movedim(-1, 1).float()
    resized = F.interpolate(channels_first, size, mode="bilinear", align_corners=False, antialias=True)
    return resized.round().clamp(0, 255).byte().movedim(1, -1).contiguous()


def translate(image: Float[Tensor, "*b c h w"], right: int, down: int) -> Float[Tensor, "*b c h w"]:
    """Move an image's content by whole pixels (or latents by whole cells); edges are repeated.

    The same as cutting another window out of a larger image; `translate_camera` is for its camera.
    """
    rows, columns = image.shape[-2:]
    reach = (max(right, 0), max(-right, 0), max(down, 0), max(-down, 0))
    padded = F.pad(image, reach, mode="replicate")
    top, left = max(-down, 0), max(-right, 0)
    return padded[..., top : top + rows, left : left + columns]


def translate_camera(camera: Camera, right: float, down: float) -> Camera:
    """The camera of an image whose content was moved by so many pixels: its principal point moves along."""
    intrinsics = camera.intrinsics.clone()
    intrinsics[..., :2, 2] += torch.tensor([right, down]).to(intrinsics)
    return camera._replace(intrinsics=intrinsics)
