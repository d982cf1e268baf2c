"""Mistakes that policies make, made on purpose: demonstrations that begin after one show how to recover.

What leads to the mistake is never recorded, so nobody learns to make it. A policy trained on perfect demonstrations
alone has not seen the states that its own errors bring about (Ross et al. 2011, DAgger).
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

from vidpara.config import ExpertConfig
from vidpara.simulation.expert import CARRY, RETREAT, UP, Commands, Expert
from vidpara.simulation.world import Goal
from vidpara.types import Float

if TYPE_CHECKING:
    from vidpara.simulation.libero import LiberoSimulator

MISPLACED = (0.035, 0.08)
"""Distance from the goal's centre (metres) at which the object is set down; LIBERO accepts less than 0.03."""
MISSED_BESIDE, MISSED_ABOVE = (0.0, 0.03), (0.03, 0.07)
"""Distances beside and above the grasp (metres) at which the hand closes. Beside it alone it would take hold of another
piece of a bowl's rim."""
UNNOTICED = 45
"""Most steps for which a mistake goes on unnoticed: the hand retreats, or carries nothing towards the goal."""


def mistake(simulator: LiberoSimulator, config: ExpertConfig, seed: int) -> Commands:
    """Commands of one mistake at the first goal, drawn by `seed`; none for the share `1 - config.recoveries` of seeds.

    Either the object is set down beside its goal, or the hand closes above the object and goes on with nothing in it.
    """
    generator = np.random.default_rng([seed, 4])
    if generator.random() >= config.recoveries:
        return iter(())
    expert, goal = Expert(simulator, config), simulator.goals[0]
    made = _misplaced if generator.random() < 0.5 else _missed
    return itertools.islice(made(expert, goal, generator), config.max_steps)


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


def _aside(generator: np.random.Generator, distance: tuple[float, float]) -> Float[np.ndarray, "3"]:
    """A horizontal offset (metres) of a length between the two distances."""
    angle, length = generator.uniform(0, 2 * np.pi), generator.uniform(*distance)
    return length * np.array([np.cos(angle), np.sin(angle), 0.0])
