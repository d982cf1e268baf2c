"""Mistakes that policies make, made on purpose: demonstrations that begin after one show how to recover.

What leads to the mistake is never recorded, so nobody learns to make it. A policy trained on perfect demonstrations
alone has not seen the states that its own errors bring about (Ross et al. 2011, DAgger).
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from vidpara.config import ExpertConfig
from vidpara.simulation.expert import CARRY, RETREAT, UP, Commands, Expert
from vidpara.simulation.grasp import grasps
from vidpara.simulation.world import Goal
from vidpara.types import Float

if TYPE_CHECKING:
    from vidpara.simulation.libero import LiberoSimulator

MISPLACED = (0.035, 0.08)
"""Distance from the goal's centre (metres) at which the object is set down; LIBERO accepts less than 0.03."""
MISSED_BESIDE, MISSED_ABOVE = (0.0, 0.03), (0.03, 0.07)
"""Distances beside and above the grasp (metres) at which the hand closes. Beside it alone it would take hold of another
piece of a bowl's rim."""
STRAYED, STRAYED_ABOVE, STRAYED_BELOW = (0.03, 0.12), (0.03, 0.15), 0.08
"""Distances (metres) at which the hand is astray: beside where it should be; above the grasp; and, with the object in
it, at most below the height at which it travels."""
WAY = (0.3, 1.0)
"""Share of the way to the goal after which the hand with the object goes astray."""
UNNOTICED = 45
"""Most steps for which a mistake goes on unnoticed: the hand retreats, or carries nothing towards the goal."""


class Made(NamedTuple):
    """Commands that make a mistake, and whether the object is in the hand after them."""

    commands: Commands
    holding: bool


def mistake(simulator: LiberoSimulator, config: ExpertConfig, seed: int) -> Made:
    """One mistake at the first goal, drawn by `seed`; none for the share `1 - config.recoveries` of seeds."""
    generator = np.random.default_rng([seed, 4])
    if generator.random() >= config.recoveries:
        return Made(iter(()), False)
    name = config.mistakes[int(generator.random() * len(config.mistakes))]
    commands = MAKE[name](Expert(simulator, config), simulator.goals[0], generator)
    return Made(itertools.islice(commands, config.max_steps), name == "strayed_holding")


def _misplaced(expert: Expert, goal: Goal, generator: np.random.Generator) -> Commands:
    rest, ground = expert.resting_place(goal), float(expert.world.position(goal.object)[2])
    yield from expert.pick(goal, 0)
    yield from expert.put(goal, rest, ground, _aside(generator, MISPLACED))
    retreat = expert.grip() + RETREAT * UP
    yield from itertools.islice(
        expert.move(lambda: retreat, 0.0, tolerance=0.02, limit=25), int(generator.integers(UNNOTICED) // 3)
    )


def _missed(expert: Expert, goal: Goal, generator: np.random.Generator) -> Commands:
    above = generator.uniform(*MISSED_ABOVE) * UP
    yield from expert.pick(goal, 0, _aside(generator, MISSED_BESIDE) + above)
    high = expert.grip() + CARRY * UP
    over = np.append(expert.world.target_position(goal.target)[:2], high[2])
    carrying = itertools.chain(
        expert.move(lambda: high, 1.0, tolerance=0.02, limit=50),
        expert.move(lambda: over, 1.0, tolerance=0.02, limit=50),
    )
    yield from itertools.islice(carrying, int(generator.integers(UNNOTICED)))


def _strayed(expert: Expert, goal: Goal, generator: np.random.Generator) -> Commands:
    (grasp, *_) = grasps(expert.world, goal.object, expert.home.rotation, expert.config)
    above = expert.world.position(goal.object) + grasp.offset + generator.uniform(*STRAYED_ABOVE) * UP
    astray = above + _aside(generator, STRAYED)
    yield from expert.move(lambda: astray, 0.0, tolerance=0.01, limit=60)


def _strayed_holding(expert: Expert, goal: Goal, generator: np.random.Generator) -> Commands:
    rest, ground = expert.resting_place(goal), float(expert.world.position(goal.object)[2])
    carry = max(ground, rest[2], expert.rim_above(goal)) + CARRY
    yield from expert.pick(goal, 0)
    lifted = expert.lifted(carry - ground)
    yield from expert.move(lambda: lifted, 1.0, tolerance=0.02, limit=50)
    in_hand = expert.grip() - expert.world.position(goal.object)
    over = np.append(expert.world.target_position(goal.target)[:2], carry) + in_hand
    way = generator.uniform(*WAY)
    astray = lifted + way * (over - lifted) + _aside(generator, STRAYED)
    yield from expert.move(lambda: astray, 1.0, tolerance=0.02, limit=90)
    low = astray - generator.uniform(0, way * STRAYED_BELOW) * UP
    yield from expert.move(lambda: low, 1.0, tolerance=0.01, limit=30)


MAKE = {
    "misplaced": _misplaced,
    "missed": _missed,
    "strayed": _strayed,
    "strayed_holding": _strayed_holding,
}


def _aside(generator: np.random.Generator, distance: tuple[float, float]) -> Float[np.ndarray, "3"]:
    """A horizontal offset (metres) of a length between the two distances."""
    angle, length = generator.uniform(0, 2 * np.pi), generator.uniform(*distance)
    return length * np.array([np.cos(angle), np.sin(angle), 0.0])
