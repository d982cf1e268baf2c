"""Rotations as matrices and as Euler angles, and how far apart two of them are.

Euler angles (x, y, z), radians, turn about the *fixed* axes in that order: R = Rz(z) Ry(y) Rx(x). That is
roll, pitch and yaw as in URDF, and lowercase "xyz" in scipy. A policy predicts them relative to the gripper's
home rotation, where they are small, far from the singularity at y = ±90° and from the wrap at ±180°.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from vidpara.geometry.precision import full_precision
from vidpara.types import Float, Tensor

GIMBAL = 1e-6
"""Cosine of the pitch below which roll and yaw turn about the same axis; yaw is then set to zero."""


def matrix_from_euler(angles: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b 3 3"]:
    """Rotation matrix of fixed-axis x, y, z angles (radians)."""
    (sx, sy, sz), (cx, cy, cz) = angles.sin().unbind(-1), angles.cos().unbind(-1)
    rows = (
        torch.stack([cz * cy, cz * sy * sx - sz * cx, cz * sy * cx + sz * sx], dim=-1),
        torch.stack([sz * cy, sz * sy * sx + cz * cx, sz * sy * cx - cz * sx], dim=-1),
        torch.stack([-sy, cy * sx, cy * cx], dim=-1),
    )
    return torch.stack(rows, dim=-2)


def euler_from_matrix(rotation: Float[Tensor, "*b 3 3"]) -> Float[Tensor, "*b 3"]:
    """Fixed-axis x, y, z angles (radians), y in [-pi/2, pi/2]; inverse of `matrix_from_euler` there."""
    cos_y = torch.hypot(rotation[..., 0, 0], rotation[..., 1, 0])
    singular = cos_y < GIMBAL
    x = torch.where(
        singular,
        torch.atan2(-rotation[..., 1, 2], rotation[..., 1, 1]),
        torch.atan2(rotation[..., 2, 1], rotation[..., 2, 2]),
    )
    y = torch.atan2(-rotation[..., 2, 0], cos_y)
    z = torch.atan2(rotation[..., 1, 0], rotation[..., 0, 0]).where(~singular, torch.zeros_like(cos_y))
    return torch.stack([x, y, z], dim=-1)


@full_precision
def relative(rotation: Float[Tensor, "*#b 3 3"], home: Float[Tensor, "*#b 3 3"]) -> Float[Tensor, "*#b 3 3"]:
    """`rotation` seen from `home` (home_from_gripper); the identity where both agree."""
    return home.mT @ rotation


@full_precision
def absolute(
    home_from_gripper: Float[Tensor, "*#b 3 3"], home: Float[Tensor, "*#b 3 3"]
) -> Float[Tensor, "*#b 3 3"]:
    """Inverse of `relative`: the rotation in the frame that `home` is given in."""
    return home @ home_from_gripper


def from_two_columns(columns: Float[Tensor, "*b 6"]) -> Float[Tensor, "*b 3 3"]:
    """The rotation whose first two columns are nearest in Gram-Schmidt's sense (Zhou et al. 2019, equation 15)."""
    first, second = columns.unflatten(-1, (2, 3)).unbind(-2)
    x = F.normalize(first, dim=-1)
    y = F.normalize(second - (x * second).sum(-1, keepdim=True) * x, dim=-1)
    return torch.stack([x, y, torch.linalg.cross(x, y)], dim=-1)


def wrap(angle: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
    """The same angle (radians) in [-pi, pi]."""
    return torch.remainder(angle + math.pi, 2 * math.pi) - math.pi


def angle_between(a: Float[Tensor, "*#b 3 3"], b: Float[Tensor, "*#b 3 3"]) -> Float[Tensor, "*#b"]:
    """Geodesic distance (radians, 0 to pi): the angle of the one turn that takes `a` to `b`.

    From sine and cosine together, because acos of the trace alone loses half its digits at small angles.
    """
    between = relative(b, a)
    axis = torch.stack(
        [
            between[..., 2, 1] - between[..., 1, 2],
            between[..., 0, 2] - between[..., 2, 0],
            between[..., 1, 0] - between[..., 0, 1],
        ],
        dim=-1,
    )
    trace = between.diagonal(dim1=-2, dim2=-1).sum(-1)
    return torch.atan2(axis.norm(dim=-1), trace - 1)
