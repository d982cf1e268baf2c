"""The servo's commands."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from vidpara.config import ControllerConfig
from vidpara.simulation.controller import command
from vidpara.types import Proprioception

HOME = Rotation.from_euler("xyz", [np.pi, 0.1, np.pi / 2]).as_matrix()
NOW = Proprioception(np.array([0.1, 0.2, 1.0]), HOME, 0.08)
SERVO = ControllerConfig(gain=1.4)


def test_a_near_target_is_asked_for_in_units_of_5_cm():
    action = command(NOW, NOW.position + np.array([0.01, -0.02, 0.0]), None, 0.0, SERVO)
    np.testing.assert_allclose(action[:3], [1.4 * 0.2, -1.4 * 0.4, 0.0])


def test_a_far_target_keeps_its_direction_at_the_limit():
    offset = np.array([0.3, -0.1, 0.2])
    for limit in (1.0, 0.4):
        action = command(NOW, NOW.position + offset, None, 0.0, SERVO, limit)
        np.testing.assert_allclose(action[:3], offset / 0.3 * limit)


def test_no_rotation_is_exactly_zero_even_when_the_wrist_is_turned():
    turned = NOW._replace(rotation=Rotation.from_rotvec([0.2, 0.0, 0.1]).as_matrix() @ HOME)
    assert (command(turned, NOW.position, None, 0.0, SERVO)[3:6] == 0).all()


def test_the_commanded_rotation_leads_to_the_wanted_one():
    wanted = Rotation.from_rotvec([0.1, -0.2, 0.3]).as_matrix() @ HOME
    turn = command(NOW, NOW.position, wanted, 0.0, SERVO)[3:6] * 0.5
    np.testing.assert_allclose(Rotation.from_rotvec(turn).as_matrix() @ HOME, wanted, atol=1e-12)


def test_a_large_rotation_keeps_its_axis():
    wanted = Rotation.from_rotvec([0.5, 0.0, 1.0]).as_matrix() @ HOME
    np.testing.assert_allclose(
        command(NOW, NOW.position, wanted, 0.0, SERVO)[3:6], [0.5, 0.0, 1.0], atol=1e-12
    )


@pytest.mark.parametrize(("closing", "expected"), [(0.0, -1.0), (0.5, 0.0), (1.0, 1.0), (1.7, 1.0)])
def test_the_gripper_opens_at_minus_one_and_closes_at_plus_one(closing, expected):
    assert command(NOW, NOW.position, None, closing, SERVO)[6] == expected
