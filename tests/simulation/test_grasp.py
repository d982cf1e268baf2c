"""Which side of a bowl the expert takes, in a world of boxes."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest

from vidpara.config import ExpertConfig
from vidpara.simulation.grasp import BOWL_RIM, grasps
from vidpara.simulation.world import Box, World

HOME = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, -1.0]])  # fingers open along world y


class Table(World):
    """A bowl at `bowl` and one box."""

    def __init__(self, bowl: tuple[float, float], box: tuple[float, float, float] = (9.0, 9.0, 0.0)) -> None:
        self.bowl = np.array([*bowl, 0.9])
        self.box = Box(np.array([*box[:2], 0.9]), np.eye(3), np.array([0.03, 0.03, box[2]]))

    def category(self, name: str) -> str:
        return "akita_black_bowl"

    def position(self, name: str) -> np.ndarray:
        return self.bowl

    def base_position(self) -> np.ndarray:
        return np.array([-0.66, 0.0, 0.9])

    def obstacles(self, grasped: str) -> list[Box]:
        return [self.box]


def side(table: Table, rim: Literal["midline", "right"] = "midline") -> float:
    return float(np.sign(grasps(table, "bowl", HOME, ExpertConfig(rim=rim))[0].offset[1]))


@pytest.mark.parametrize("y", [-0.3, -0.01, 0.01, 0.3])
def test_the_free_bowl_is_taken_at_the_side_of_the_midline(y):
    assert side(Table((0.0, y))) == -np.sign(y)


@pytest.mark.parametrize("y", [-0.3, 0.3])
def test_the_right_side_is_taken_wherever_the_bowl_is(y):
    assert side(Table((0.0, y)), "right") == -1.0


def test_the_blocked_side_is_avoided():
    assert side(Table((0.0, 0.2), box=(0.0, 0.1, 0.1))) == 1.0


def test_a_low_object_beside_the_bowl_blocks_nothing():
    assert side(Table((0.0, 0.2), box=(0.0, 0.1, 0.019))) == -1.0


def test_with_the_home_orientation_the_wrist_is_never_turned():
    assert all(grasp.rotation is None for grasp in grasps(Table((0.1, 0.1)), "bowl", HOME, ExpertConfig()))


def test_free_grasps_hold_the_rim_with_the_fingers_across_it():
    for grasp in grasps(Table((0.1, 0.1)), "bowl", HOME, ExpertConfig(fixed_rotation=False)):
        assert grasp.rotation is not None
        assert np.linalg.norm(grasp.offset[:2]) == pytest.approx(BOWL_RIM[0])
        assert abs(grasp.rotation[:2, 0] @ grasp.offset[:2]) == pytest.approx(BOWL_RIM[0])
        np.testing.assert_allclose(grasp.rotation[:, 2], [0.0, 0.0, -1.0])
