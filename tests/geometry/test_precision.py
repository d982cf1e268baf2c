"""Autocast, which training on a GPU uses, must not touch the geometry."""

from __future__ import annotations

import torch

from vidpara.geometry.camera import lift, project
from vidpara.geometry.rotation import relative
from vidpara.types import Camera

LENS = torch.tensor([[154.5, 0.0, 64.0], [0.0, 154.5, 64.0], [0.0, 0.0, 1.0]])
POSE = torch.tensor(
    [[0.0, 0.63, -0.78, 0.66], [1.0, 0.0, 0.0, 0.0], [0.0, -0.78, -0.63, 1.61], [0.0, 0.0, 0.0, 1.0]]
)
CAMERA = Camera(LENS, POSE)


def test_projecting_lifting_and_turning_are_the_same_under_autocast():
    point = torch.tensor([-0.1234, 0.0567, 0.9321])
    turn = torch.linalg.qr(torch.randn(3, 3)).Q
    plain = (pixel := project(point, CAMERA)), lift(pixel, point[2], CAMERA), relative(turn, turn.T)
    with torch.autocast("cpu", torch.bfloat16):
        half = project(point, CAMERA), lift(pixel, point[2], CAMERA), relative(turn, turn.T)
    for expected, found in zip(plain, half, strict=True):
        assert found.dtype == torch.float32
        assert torch.equal(found, expected)
