"""Shifting a clip keeps image, camera and labels in agreement."""

from __future__ import annotations

import torch

from vidpara.data.transforms import random_shift, shift
from vidpara.geometry.camera import project
from vidpara.types import Actions, Batch, Camera, RobotState

FACTOR = 8


def clip() -> Batch:
    pose = torch.eye(4)
    camera = Camera(torch.tensor([[100.0, 0, 64], [0, 100.0, 64], [0, 0, 1]]), pose)
    position = torch.tensor([[0.1, -0.1, 1.0], [-0.5, 0.2, 1.0]])
    pixel = project(position, Camera(camera.intrinsics[None], pose[None]))
    actions = Actions(
        pixel,
        position[:, 2],
        position,
        torch.eye(3).expand(2, 3, 3),
        torch.zeros(2),
        torch.ones(2, dtype=torch.bool),
        torch.ones(2, dtype=torch.bool),
    )
    return Batch(
        torch.randn(3, 4, 16, 16),
        torch.zeros(1, 8),
        camera,
        RobotState(position[0], torch.tensor(0.04)),
        actions,
    )


def test_projection_through_the_shifted_camera_is_the_shifted_pixel():
    moved = shift(clip(), down=2, right=-1, factor=FACTOR)
    camera = Camera(moved.camera.intrinsics[None], moved.camera.world_from_camera[None])
    torch.testing.assert_close(project(moved.actions.position, camera), moved.actions.pixel)
    torch.testing.assert_close(
        moved.actions.pixel - clip().actions.pixel, torch.tensor([[-8.0, 16.0]]).expand(2, 2)
    )


def test_content_moves_by_whole_cells_and_edges_repeat():
    still = clip()
    moved = shift(still, down=2, right=-1, factor=FACTOR)
    assert torch.equal(moved.latents[..., 2:, :-1], still.latents[..., :-2, 1:])
    assert torch.equal(moved.latents[..., 0, :-1], still.latents[..., 0, 1:])
    assert torch.equal(moved.latents[..., 2:, -1], still.latents[..., :-2, -1])


def test_steps_that_leave_the_image_become_invalid():
    assert shift(clip(), down=0, right=-2, factor=FACTOR).actions.valid.tolist() == [True, False]


def test_random_shifts_follow_the_random_state_and_stay_in_range():
    torch.manual_seed(3)
    first = random_shift(clip(), 2, FACTOR).camera.intrinsics
    torch.manual_seed(3)
    assert torch.equal(random_shift(clip(), 2, FACTOR).camera.intrinsics, first)
    centres = torch.stack([random_shift(clip(), 2, FACTOR).camera.intrinsics[:2, 2] for _ in range(50)])
    assert (centres - 64).abs().max() == 16 and len(centres.unique()) == 5
