"""Where to take hold of an object: rims of bowls and mugs, top-down grasps of boxes and cans."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

from vidpara.config import ExpertConfig
from vidpara.simulation.world import Box, World
from vidpara.types import Float

UP = np.array([0.0, 0.0, 1.0])
BOWL_RIM = (0.0505, 0.0526)
"""Akita black bowl: radius of the wall at the rim, height of the rim above the body's origin (metres)."""
WIDEST = 0.072
"""What fits between the fingers (metres), with some room."""
BLOCKED = 0.005
"""Free distance (metres) below which a side of a rim is not used with the home orientation."""
DIRECTIONS = 16
REACH = 0.72
"""Horizontal distance from the robot's base (metres) beyond which a grasp counts as hard to reach."""


class Grasp(NamedTuple):
    """A top-down grasp: grip-site offset from the object's body (metres, world axes), and the wrist's rotation.

    A rotation of None keeps the home orientation.
    """

    offset: Float[np.ndarray, "3"]
    rotation: Float[np.ndarray, "3 3"] | None


def grasps(world: World, name: str, home: Float[np.ndarray, "3 3"], config: ExpertConfig) -> list[Grasp]:
    """Grasps of an object, best first."""
    fixed_rotation = config.fixed_rotation
    category = world.category(name)
    rim = None
    if category.startswith("akita"):
        rim, depth = BOWL_RIM, 0.012
    elif "mug" in category:
        rim, depth = _mug_rim(world, name), 0.018
    if rim is None:
        return _box_grasps(world, name, home, fixed_rotation)
    offsets = [(np.append(rim[0] * d, rim[1] - depth), d) for d in _directions(fixed_rotation)]
    position = world.position(name)
    obstacles = world.obstacles(name)

    def cost(candidate: tuple[Float[np.ndarray, "3"], Float[np.ndarray, "2"]]) -> float:
        offset, direction = candidate
        rotation = home if fixed_rotation else _facing(home, direction)
        outside = np.append(direction, 0.0)
        finger = [
            position + offset + outside * along + up * UP
            for along in (0.015, 0.03, 0.045)
            for up in (0.042, 0.012, -0.008)
        ]
        beside, above = _room(obstacles, position + offset, rotation, finger)
        if fixed_rotation:
            # A free side first; then by a fixed rule, because a policy has to imitate it.
            side = 1.0 if config.rim == "right" else np.sign(position[1] or 1.0)
            return 10.0 * (min(beside, above) < BLOCKED) + float(side * direction[1])
        reach = float(np.linalg.norm((position + offset - world.base_position())[:2]))
        return -10 * (beside + above) + 0.12 * _angle(home, rotation) + 6 * max(reach - REACH, 0.0)

    offsets.sort(key=cost)
    return [
        Grasp(offset, None if fixed_rotation else _facing(home, direction)) for offset, direction in offsets
    ]


def _directions(fixed_rotation: bool) -> list[Float[np.ndarray, "2"]]:
    """Unit directions from a rim's centre; with the home orientation the fingers open along world y."""
    if fixed_rotation:
        return [np.array([0.0, 1.0]), np.array([0.0, -1.0])]
    angles = 2 * np.pi * np.arange(DIRECTIONS) / DIRECTIONS
    return [np.array([np.cos(angle), np.sin(angle)]) for angle in angles]


def _mug_rim(world: World, name: str) -> tuple[float, float]:
    low, high = world.bounding_box(name)
    vertical = world.rotation(name)[2]
    up = int(np.argmax(np.abs(vertical)))
    radius = float(np.delete(high - low, up).min()) / 2 - 0.004
    return radius, float(high[up] if vertical[up] > 0 else -low[up])


def _box_grasps(world: World, name: str, home: Float[np.ndarray, "3 3"], fixed_rotation: bool) -> list[Grasp]:
    """Fingers on two opposite faces, at most 3 cm below the top."""
    low, high = world.bounding_box(name)
    rotation, position, size = world.rotation(name), world.position(name), high - low
    up = int(np.argmax(np.abs(rotation[2])))
    center, height = position + rotation @ ((low + high) / 2), size[up]
    top = center[2] + height / 2
    center[2] = max(top - min(0.03, 0.55 * height), top - height + 0.012)
    obstacles = world.obstacles(name)
    ranked = []
    for side in (axis for axis in range(3) if axis != up):
        across = rotation[:2, side] / np.linalg.norm(rotation[:2, side])
        wrist = home if fixed_rotation else _facing(home, across)
        finger = [center + wrist[:, 0] * along + z * UP for along in (-0.05, 0.05) for z in (0.0, 0.03)]
        cost = (
            -10 * sum(_room(obstacles, center, wrist, finger)) + 0.12 * _angle(home, wrist) + 2 * size[side]
        )
        grasp = Grasp(center - position, None if fixed_rotation else wrist)
        ranked.append((cost + 5 * (size[side] > WIDEST), size[side], grasp))
    ranked.sort(key=lambda entry: entry[0])
    return [grasp for rank, (_, width, grasp) in enumerate(ranked) if rank == 0 or width < WIDEST]


def _room(
    obstacles: Sequence[Box],
    grip: Float[np.ndarray, "3"],
    rotation: Float[np.ndarray, "3 3"],
    finger: Sequence[Float[np.ndarray, "3"]],
) -> tuple[float, float]:
    """Free distance (metres) around the finger, and that around the 20 cm wide hand, each counted up to 3 cm."""
    hand = [
        grip + rotation[:, 0] * across + rotation[:, 1] * deep + up * UP
        for across in (-0.1, -0.05, 0.0, 0.05, 0.1)
        for deep in (-0.03, 0.03)
        for up in (0.06, 0.11)
    ]
    beside, above = (
        min([0.03, *(_distance(box, point) for box in obstacles for point in part)])
        for part in (finger, hand)
    )
    return beside, above


def _distance(box: Box, point: Float[np.ndarray, "3"]) -> float:
    beyond = np.abs((point - box.center) @ box.rotation) - box.half
    return float(np.linalg.norm(np.maximum(beyond, 0.0)))


def _facing(home: Float[np.ndarray, "3 3"], direction: Float[np.ndarray, "2"]) -> Float[np.ndarray, "3 3"]:
    """Pointing straight down with the fingers opening along `direction`, whichever sign turns the wrist less."""
    candidates = []
    for x in (np.append(direction, 0.0), np.append(-direction, 0.0)):
        down = np.array([0.0, 0.0, -1.0])
        candidates.append(np.stack([x, np.cross(down, x), down], axis=1))
    return min(candidates, key=lambda rotation: _angle(home, rotation))


def _angle(a: Float[np.ndarray, "3 3"], b: Float[np.ndarray, "3 3"]) -> float:
    return float(Rotation.from_matrix(a @ b.T).magnitude())
