"""The scripted demonstrator: pick and place with privileged knowledge of the simulator's state.

It is a generator of commands. Whoever runs it takes each command, steps the simulator and comes back for the next, so
recording is not its business:

    for command in commands(simulator, config):
        simulator.step(command)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from vidpara.config import ControllerConfig, ExpertConfig
from vidpara.simulation.controller import command
from vidpara.simulation.grasp import grasps
from vidpara.simulation.world import Goal
from vidpara.types import Float

if TYPE_CHECKING:
    from vidpara.simulation.libero import LiberoSimulator

Commands = Iterator[Float[np.ndarray, "7"]]
Point = Callable[[], Float[np.ndarray, "3"]]

UP = np.array([0.0, 0.0, 1.0])
NOWHERE = np.zeros(3)
APPROACH = 0.10
"""Height above the grasp from which the hand goes straight down (metres)."""
CARRY = 0.12
"""Height above the higher of object and target at which the object travels (metres)."""
RETREAT = 0.10
ATTEMPTS = 3
FARTHEST = 0.70
"""Beyond this distance from the base lifting also pulls back, as the stretched arm cannot go straight up."""
HELD = 0.06
"""The object counts as dropped once it is farther than this from where it was in the hand (metres)."""
IN_HAND, CLEAR = 0.09, 0.02
"""An object is in the hand if its origin is nearer to the grip than the one and its underside clear of what is under it
by the other (metres)."""
ON_PLATE, IN_BOWL = 0.006, 0.012
"""Height of an object's underside above the origin of the plate or bowl that it stands on."""
DROP_ON, DROP_IN = 0.006, 0.06
"""Height above its resting place at which an object is released."""


def commands(simulator: LiberoSimulator, config: ExpertConfig) -> Commands:
    """OSC_POSE commands that fulfil the task's `on` and `in` goals one after the other, then retreat upwards.

    They end early when a goal needs another skill, when the attempts are used up, or after `config.max_steps`.
    """
    expert = Expert(simulator, config)
    for _, action in zip(range(config.max_steps), expert.fulfil(simulator.goals), strict=False):
        yield action


class Expert:
    """What the motions share: the simulator, the home pose and the servo's settings."""

    def __init__(self, simulator: LiberoSimulator, config: ExpertConfig) -> None:
        self.simulator = simulator
        self.world = simulator.world
        self.config = config
        self.servo = ControllerConfig()
        self.home = simulator.proprioception()
        self.rotation: Float[np.ndarray, "3 3"] | None = None

    def fulfil(self, goals: list[Goal]) -> Commands:
        for goal in goals:
            if goal.predicate not in ("on", "in"):
                return
            for attempt in range(ATTEMPTS):
                if self.world.satisfied(goal):
                    break
                yield from self.pick_and_place(goal, attempt)
            if not self.world.satisfied(goal):
                return
            if goal is not goals[-1]:
                high = np.array([*self.grip()[:2], max(self.grip()[2], self.home.position[2])])
                yield from self.move(lambda high=high: high, 0.0, tolerance=0.03, limit=25)

    def pick_and_place(self, goal: Goal, attempt: int) -> Commands:
        rest, ground = self.resting_place(goal), float(self.world.position(goal.object)[2])
        if self.holding(goal.object):
            yield from self.place(goal, rest, max(rest[2], self.rim_above(goal)) + CARRY)
        else:
            yield from self.pick(goal, attempt)
            yield from self.put(goal, rest, ground)
        retreat = self.grip() + RETREAT * UP
        yield from self.move(lambda: retreat, 0.0, tolerance=0.02, limit=25)

    def pick(self, goal: Goal, attempt: int, aside: Float[np.ndarray, "3"] = NOWHERE) -> Commands:
        """Down to the object, or `aside` (metres) of where it should be grasped, and close."""
        name = goal.object
        candidates = grasps(self.world, name, self.home.rotation, self.config)
        grasp = candidates[min(attempt, len(candidates) - 1)]
        self.rotation = grasp.rotation

        def above(height: float) -> Float[np.ndarray, "3"]:
            return self.world.position(name) + grasp.offset + aside + height * UP

        yield from self.move(lambda: above(APPROACH), 0.0, tolerance=0.02, turn=0.15, limit=60)
        yield from self.move(lambda: above(0.03), 0.0, tolerance=0.008, turn=0.1, limit=30)
        bottom = above(0.0)
        yield from self.move(lambda: bottom, 0.0, tolerance=0.006, turn=0.1, limit=25)
        yield from self.close(bottom)

    def put(
        self, goal: Goal, rest: Float[np.ndarray, "3"], ground: float, aside: Float[np.ndarray, "3"] = NOWHERE
    ) -> Commands:
        """Lift the object from height `ground` and place it in its goal, where it will stand at `rest`."""
        carry = max(ground, rest[2], self.rim_above(goal)) + CARRY
        in_hand = self.grip() - self.world.position(goal.object)
        lifted = self.lifted(carry - ground)
        yield from self.move(lambda: lifted, 1.0, tolerance=0.02, limit=50)
        yield from self.place(goal, rest, carry, aside, in_hand)

    def place(
        self,
        goal: Goal,
        rest: Float[np.ndarray, "3"],
        carry: float,
        aside: Float[np.ndarray, "3"] = NOWHERE,
        in_hand: Float[np.ndarray, "3"] | None = None,
    ) -> Commands:
        """Carry the object at height `carry` over its goal, or `aside` (metres) of it, lower and release.

        `in_hand` is the grip's offset from the object (metres), as long as it is not dropped; by default the present
        one.
        """
        world, name = self.world, goal.object
        in_hand = self.grip() - world.position(name) if in_hand is None else in_hand

        def dropped() -> bool:
            return bool(np.linalg.norm(self.grip() - world.position(name) - in_hand) > HELD)

        def over(height: float) -> Float[np.ndarray, "3"]:
            x, y = world.target_position(goal.target)[:2]
            return np.array([x, y, height]) + aside + self.grip() - world.position(name)

        release = rest[2] + (DROP_IN if goal.predicate == "in" else DROP_ON)
        if not dropped():
            yield from self.move(lambda: over(carry), 1.0, tolerance=0.012, limit=90, until=dropped)
            yield from self.move(lambda: over(release), 1.0, tolerance=0.008, limit=60, until=dropped)
        for _ in range(6):
            yield command(self.simulator.proprioception(), self.grip(), None, 0.0, self.servo)

    # ----------------------------------------------------------------------------------------------------- motions
    def move(
        self,
        target: Point,
        gripper: float,
        tolerance: float,
        limit: int,
        turn: float = np.inf,
        until: Callable[[], bool] = lambda: False,
    ) -> Commands:
        """Straight towards a point that may move, until it and the rotation (within `turn` radians) are reached."""
        for _ in range(limit):
            now = self.simulator.proprioception()
            near = np.linalg.norm(target() - now.position) < tolerance
            if until() or (near and self.turned(now.rotation) < turn):
                return
            yield command(now, target(), self.rotation, gripper, self.servo, self.config.speed)

    def close(self, position: Float[np.ndarray, "3"]) -> Commands:
        """Close on the spot until the finger gap stops shrinking."""
        still, opening = 0, np.inf
        for step in range(20):
            now = self.simulator.proprioception()
            still = still + 1 if opening - now.opening < 5e-4 else 0
            opening = now.opening
            if step >= 6 and still >= 2:
                return
            yield command(now, position, self.rotation, 1.0, self.servo)

    # -------------------------------------------------------------------------------------------------- geometry
    def holding(self, name: str) -> bool:
        """Whether the object hangs in the hand: at the grip, and above what it would stand on."""
        x, y, z = (float(v) for v in self.world.position(name))
        if np.linalg.norm(self.grip() - (x, y, z)) > IN_HAND:
            return False
        return z + self.underside(name) > self.simulator.surface_under(x, y, name) + CLEAR

    def underside(self, name: str) -> float:
        """Height of an object's lowest point over its origin, as it is turned now (metres)."""
        low, high = self.world.bounding_box(name)
        corners = np.array([low, high])[np.indices((2, 2, 2)).reshape(3, -1).T, np.arange(3)]
        return float((corners @ self.world.rotation(name).T)[:, 2].min())

    def grip(self) -> Float[np.ndarray, "3"]:
        return self.simulator.proprioception().position

    def turned(self, rotation: Float[np.ndarray, "3 3"]) -> float:
        if self.rotation is None:
            return 0.0
        return float(np.arccos(np.clip((np.trace(self.rotation @ rotation.T) - 1) / 2, -1.0, 1.0)))

    def lifted(self, height: float) -> Float[np.ndarray, "3"]:
        inwards = self.world.base_position()[:2] - self.grip()[:2]
        distance = float(np.linalg.norm(inwards))
        back = min(1.2 * max(distance - FARTHEST, 0.0), 0.10)
        return self.grip() + np.append(inwards / distance * back, height)

    def resting_place(self, goal: Goal) -> Float[np.ndarray, "3"]:
        """Where the object's body is when it stands in its goal (metres, world)."""
        world = self.world
        x, y, z = world.target_position(goal.target)
        ground = self.simulator.surface_under(x, y, goal.object)
        if world.is_region(goal.target):
            ground = max(ground, z - 0.01 if goal.predicate == "in" else z)
        elif "plate" in goal.target:
            ground = z + ON_PLATE
        elif "bowl" in goal.target:
            ground = z + IN_BOWL
        return np.array([x, y, ground - self.underside(goal.object)])

    def rim_above(self, goal: Goal) -> float:
        """Height (metres, world) that the carried object must clear at its goal."""
        if goal.predicate == "in" and self.world.is_region(goal.target):
            return float(self.world.target_position(goal.target)[2]) + 0.10
        return -np.inf
