"""A point-mass cell and a scripted policy: the loop and the bookkeeping are tested in milliseconds, every outcome and
every fault can be had on demand, and the real simulator's own tests lie in tests/simulation."""

from __future__ import annotations

import os

import numpy as np
import torch
from torch import nn

from vidpara.config import SceneConfig
from vidpara.types import ActionChunk, Camera, EpisodeStart, Observation, Progress, Proprioception, RobotState

IMAGE = 32
STEPS = 6
OBJECT, GOAL = (0.1, 0.1), (-0.1, 0.1)
TABLE, CARRY = 0.0, 0.15
GRASP_RADIUS, GOAL_RADIUS = 0.03, 0.03
CAMERA = Camera(
    torch.tensor([[32.0, 0.0, 16.0], [0.0, 32.0, 16.0], [0.0, 0.0, 1.0]]),
    torch.tensor([[1.0, 0, 0, 0], [0, -1.0, 0, 0], [0, 0, -1.0, 1.0], [0, 0, 0, 1.0]]),
)
"""One metre above the table, looking straight down."""


class PointMass:
    """An end effector that goes where commanded, and an object that sticks to it when it closes nearby.

    `start.objects` places the object and its goal. The image is black.
    """

    def __init__(self, config: SceneConfig) -> None:
        self.resets = 0
        self.observed = 0

    def reset(self, start: EpisodeStart) -> Proprioception:
        self.resets += 1
        places = {name: np.array([x, y, TABLE]) for name, x, y in start.objects}
        self.object, self.goal = places["object"], places["target"]
        self.position, self.held, self.opening = np.array([0.0, 0.0, CARRY]), False, 0.08
        return self._state()

    def observe(self) -> Observation:
        self.observed += 1
        return Observation(
            torch.zeros(IMAGE, IMAGE, 3, dtype=torch.uint8),
            CAMERA,
            RobotState(torch.tensor(self.position).float(), torch.tensor(self.opening)),
        )

    def step(self, command: np.ndarray) -> tuple[Proprioception, Progress]:
        assert command.shape == (7,) and np.abs(command).max() <= 1
        self.position = self.position + 0.05 * command[:3]
        closing = command[6] > 0
        self.held = closing and (
            self.held or bool(np.linalg.norm(self.position - self.object) < GRASP_RADIUS)
        )
        self.opening = 0.0 if closing else 0.08
        self.object = self.position if self.held else np.array([*self.object[:2], TABLE])
        on_goal = bool(np.linalg.norm(self.object - self.goal) < GOAL_RADIUS)
        away = float(np.linalg.norm((self.object - self.goal)[:2]))
        return self._state(), Progress(bool(self.object[2] > 0.03), on_goal, away)

    def close(self) -> None: ...

    def _state(self) -> Proprioception:
        return Proprioception(self.position.copy(), np.eye(3), self.opening)


class Scripted(nn.Module):
    """Plans the whole task from the robot's state alone: above the object, down, close, lift, over to the goal, down.

    Without state of its own, like a real policy. `batches` notes how many observations each call had.
    """

    def __init__(self, object_xy: tuple[float, float] = OBJECT, goal_xy: tuple[float, float] = GOAL) -> None:
        super().__init__()
        self.offset = nn.Parameter(torch.zeros(3))
        self.object_xy, self.goal_xy = object_xy, goal_xy
        self.batches: list[int] = []

    def act(self, observation: Observation) -> ActionChunk:
        self.batches.append(len(observation.image))
        plans = [self._plan(p, float(o)) for p, o in zip(*observation.state, strict=True)]
        points = torch.tensor(plans)
        rotation = torch.eye(3).expand(*points.shape[:2], 3, 3)
        heatmap = torch.full((*points.shape[:2], 8, 8), 1 / 64)
        return ActionChunk(points[..., :3] + self.offset, rotation, points[..., 3], heatmap)

    def _plan(self, position: torch.Tensor, opening: float) -> list[tuple[float, float, float, float]]:
        (x, y), (goal_x, goal_y) = self.object_xy, self.goal_xy
        there = float((position - torch.tensor([x, y, TABLE])).norm()) < 0.02
        before = [] if there else [(x, y, CARRY, 0.0), (x, y, TABLE, 0.0)]
        after = [] if float(position[2]) > CARRY / 2 else [(x, y, CARRY, 1.0)]
        steps = [*after] if opening == 0 else [*before, (x, y, TABLE, 1.0), (x, y, CARRY, 1.0)]
        steps += [(goal_x, goal_y, CARRY, 1.0)] if opening > 0 else []
        return (steps + [(goal_x, goal_y, TABLE, 1.0)] * STEPS)[:STEPS]


class Failing(PointMass):
    """Its third episode raises, as a lost rendering context does."""

    def observe(self) -> Observation:
        if self.resets == 3:
            raise RuntimeError("the rendering context is lost")
        return super().observe()


class Crashing(PointMass):
    """Its second episode takes the whole process down, as a fault in native code does."""

    def step(self, command: np.ndarray) -> tuple[Proprioception, Progress]:
        if self.resets == 2:
            os._exit(11)
        return super().step(command)


def start(
    seed: int = 0, object_xy: tuple[float, float] = OBJECT, goal_xy: tuple[float, float] = GOAL
) -> EpisodeStart:
    return EpisodeStart(seed, (("object", *object_xy), ("target", *goal_xy)), (0.0, 0.0))
