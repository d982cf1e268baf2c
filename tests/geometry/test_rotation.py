"""Rotations: inverses, closed forms, and agreement with scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from vidpara.geometry.rotation import (
    absolute,
    angle_between,
    euler_from_matrix,
    matrix_from_euler,
    relative,
    wrap,
)
from vidpara.types import Tensor

turn = st.floats(-math.pi, math.pi)
any_angles = st.tuples(turn, st.floats(-math.pi / 2, math.pi / 2), turn)
regular_angles = st.tuples(turn, st.floats(-1.5, 1.5), turn)


def tensor(angles: tuple[float, float, float]) -> Tensor:
    return torch.tensor(angles, dtype=torch.float64)


@given(any_angles)
def test_matrices_agree_with_scipy_for_fixed_axes(angles: tuple[float, float, float]):
    expected = Rotation.from_euler("xyz", angles).as_matrix()
    np.testing.assert_allclose(matrix_from_euler(tensor(angles)).numpy(), expected, atol=1e-12)


@given(regular_angles)
def test_euler_angles_agree_with_scipy(angles: tuple[float, float, float]):
    rotation = Rotation.from_euler("xyz", angles)
    found = euler_from_matrix(torch.from_numpy(rotation.as_matrix()))
    difference = wrap(found - torch.from_numpy(rotation.as_euler("xyz").copy()))
    # -pi and pi are one angle, so differences of a whole turn do not count.
    np.testing.assert_allclose(np.abs(np.sin(difference.numpy() / 2)), 0, atol=1e-9)


@given(regular_angles)
def test_euler_inverts_matrix(angles: tuple[float, float, float]):
    found = euler_from_matrix(matrix_from_euler(tensor(angles)))
    torch.testing.assert_close(torch.sin((found - tensor(angles)) / 2).abs(), torch.zeros(3).double())


@given(turn, turn, st.sampled_from([-1, 1]))
def test_the_matrix_survives_gimbal_lock(x: float, z: float, sign: int):
    rotation = matrix_from_euler(tensor((x, sign * math.pi / 2, z)))
    torch.testing.assert_close(matrix_from_euler(euler_from_matrix(rotation)), rotation, rtol=0, atol=2e-6)


def test_one_axis_at_a_time_by_hand():
    x, y, z = torch.eye(3)
    quarter = math.pi / 2
    torch.testing.assert_close(matrix_from_euler(torch.tensor([quarter, 0, 0])) @ y, z)
    torch.testing.assert_close(matrix_from_euler(torch.tensor([0, quarter, 0])) @ z, x)
    torch.testing.assert_close(matrix_from_euler(torch.tensor([0, 0, quarter])) @ x, y)


def test_batches_keep_their_shape():
    angles = torch.rand(2, 5, 3)
    assert matrix_from_euler(angles).shape == (2, 5, 3, 3)
    torch.testing.assert_close(euler_from_matrix(matrix_from_euler(angles)), angles)


@given(any_angles, any_angles)
def test_absolute_inverts_relative(angles: tuple[float, float, float], home: tuple[float, float, float]):
    rotation, home_rotation = matrix_from_euler(tensor(angles)), matrix_from_euler(tensor(home))
    torch.testing.assert_close(absolute(relative(rotation, home_rotation), home_rotation), rotation)


@given(any_angles)
def test_home_relative_to_home_is_the_identity(home: tuple[float, float, float]):
    rotation = matrix_from_euler(tensor(home))
    torch.testing.assert_close(relative(rotation, rotation), torch.eye(3).double())
    torch.testing.assert_close(euler_from_matrix(relative(rotation, rotation)), torch.zeros(3).double())


@given(any_angles, any_angles)
def test_angle_between_agrees_with_scipy(a: tuple[float, float, float], b: tuple[float, float, float]):
    expected = (Rotation.from_euler("xyz", a).inv() * Rotation.from_euler("xyz", b)).magnitude()
    found = angle_between(matrix_from_euler(tensor(a)), matrix_from_euler(tensor(b)))
    assert float(found) == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("angle", [0.0, 1e-6, 0.5, math.pi - 1e-6, math.pi])
def test_angle_between_is_exact_at_both_ends(angle: float):
    turned = matrix_from_euler(tensor((0, 0, angle)))
    assert float(angle_between(turned, torch.eye(3).double())) == pytest.approx(angle, abs=1e-12)


@given(st.floats(-100, 100))
def test_wrap_keeps_the_direction_and_stays_within_half_a_turn(angle: float):
    wrapped = wrap(torch.tensor(angle, dtype=torch.float64))
    assert -math.pi <= float(wrapped) <= math.pi
    assert math.cos(float(wrapped) - angle) == pytest.approx(1, abs=1e-12)


@given(turn)
def test_wrap_leaves_angles_in_range_alone(angle: float):
    difference = float(wrap(torch.tensor(angle, dtype=torch.float64))) - angle
    assert abs(math.sin(difference / 2)) < 1e-12
