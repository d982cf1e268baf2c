"""Cameras of MuJoCo models, read from their XML."""

from __future__ import annotations

import pytest
import torch

from vidpara.cli import UserError
from vidpara.data.published import camera_of

MODEL = "<mujoco>{default}<worldbody><camera name='front' {camera}/></worldbody></mujoco>"


def test_a_camera_of_place_and_quaternion_is_read():
    camera = camera_of(
        MODEL.format(default="", camera="mode='fixed' pos='1 2 3' quat='1 0 0 0' fovy='90'"), "front", 4, 8
    )
    assert camera.world_from_camera.diag().tolist() == [1, -1, -1, 1]
    assert camera.world_from_camera[:3, 3].tolist() == [1, 2, 3]
    torch.testing.assert_close(camera.intrinsics, torch.tensor([[2.0, 0, 4], [0, 2, 2], [0, 0, 1]]))


@pytest.mark.parametrize(
    ("default", "camera", "words"),
    [
        ("", "pos='1 2 3' xyaxes='0 1 0 0 0 1'", "xyaxes"),
        ("", "pos='1 2 3' euler='0 90 0'", "euler"),
        ("", "mode='targetbody' target='hand'", "target"),
        ("", "pos='1 2 3' fovy='0'", "a fovy of 0 degrees"),
        ("<default><camera fovy='60'/></default>", "pos='1 2 3'", "a default class"),
    ],
)
def test_a_camera_that_is_described_otherwise_is_refused(default, camera, words):
    with pytest.raises(UserError, match=words):
        camera_of(MODEL.format(default=default, camera=camera), "front", 4, 8)
