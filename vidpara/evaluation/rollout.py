"""One episode in closed loop: look, ask the policy for a chunk of points, servo to the first of them, look again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
import torch

from vidpara.cli import UserError
from vidpara.config import ControllerConfig
from vidpara.simulation import controller as servo
from vidpara.types import ActionChunk, EpisodeStart, Float, Observation, Proprioception, Simulator

Outcome = Literal["MISS", "GRASP", "PLACE"]
"""How far an episode came: never lifted the object, lifted it, or fulfilled the goal predicate."""
CLOSED = 0.5
"""Predicted gripper closing from which the gripper is commanded to close."""


class Frame(NamedTuple):
    """One recorded camera frame and the plan in force: the unbatched chunk, and which of its points comes next."""

    observation: Observation
    chunk: ActionChunk
    point: int
    step: int
    lifted: bool


class EpisodeResult(NamedTuple):
    """What happened. `steps` are control steps, `looks` are calls of the policy; `frames` is empty unless recorded."""

    start: EpisodeStart
    outcome: Outcome
    steps: int
    looks: int
    frames: tuple[Frame, ...]
    away: float = 0.0
    """Horizontal distance (metres) of the object from its goal in the end."""


def run_episode(
    simulator: Simulator,
    ask: Callable[[Observation], ActionChunk],
    start: EpisodeStart,
    config: ControllerConfig,
    max_steps: int,
    record: bool = False,
) -> EpisodeResult:
    """Drive `simulator` with the policy behind `ask` (unbatched in, unbatched out) until success or `max_steps`.

    The policy has no memory: where nothing has moved it would see the same picture and make the same plan again, for
    instance with the gripper just closed. So after a look since which the end effector has moved less than
    `config.stall` the whole chunk is executed.

    LIBERO's success rule: the episode ends as PLACE at the first step at which the goal predicate holds. The camera
    is rendered only when the policy looks; with `record` also at every point, for a smooth video.

    Raises:
        UserError: the policy's chunks are shorter than `config.execute`, or `config.ensemble` contradicts the rest.
        ValueError: the policy asks for a point that is not a number.
    """
    state = simulator.reset(start)
    steps, looks, lifted, away = 0, 0, False, 0.0
    frames: list[Frame] = []
    seen_from = np.full(3, np.inf)
    ensemble = None if config.ensemble is None else TemporalEnsemble(config)
    while steps < max_steps:
        observation = simulator.observe()
        chunk, looks = _checked(ask(observation), config), looks + 1
        if ensemble is not None:
            chunk = ensemble.merged(chunk)
        moved = np.linalg.norm(state.position - seen_from)
        seen_from = state.position
        for point in range(config.execute if moved >= config.stall else len(chunk.position)):
            if record and steps < max_steps:
                seen = simulator.observe() if point else observation
                frames.append(Frame(seen, chunk, point, steps, lifted))
            for held in range(1, min(config.max_steps_per_point, max_steps - steps) + 1):
                state, progress = simulator.step(_command(state, chunk, point, config))
                steps, lifted, away = steps + 1, lifted or progress.lifted, progress.away
                if progress.success:
                    if record:
                        frames.append(Frame(simulator.observe(), chunk, point, steps, lifted))
                    return EpisodeResult(start, "PLACE", steps, looks, tuple(frames), away)
                left = np.linalg.norm(chunk.position[point].numpy() - state.position)
                if held >= config.steps_per_point and left <= config.tolerance:
                    break
    return EpisodeResult(start, "GRASP" if lifted else "MISS", steps, looks, tuple(frames), away)


class TemporalEnsemble:
    """Temporal ensembling (Zhao et al. 2023, section IV-C): every moment's point is a mean over all plans for it.

    The oldest plan weighs 1, the next exp(-m), and so on. It needs a look at every point, so it replaces the rule for
    stalls: no chunk is executed to its end.

    Raises:
        UserError: more than one point may be executed between looks, or predicted rotations are followed.
    """

    def __init__(self, config: ControllerConfig) -> None:
        if config.execute != 1 or config.rotation == "predicted" or config.stall > 0:
            raise UserError(
                f"controller.ensemble needs a look at every point, controller.execute is {config.execute}, "
                f"controller.stall {config.stall} and controller.rotation {config.rotation}; "
                "set --controller.execute 1 --controller.stall 0 --controller.rotation zero"
            )
        self._decay, self._plans = config.ensemble or 0.0, list[ActionChunk]()

    def merged(self, chunk: ActionChunk) -> ActionChunk:
        """The newest plan, its first point replaced by the mean of all plans for that moment."""
        self._plans = [*self._plans, chunk][-len(chunk.position) :]
        ages = range(len(self._plans) - 1, -1, -1)
        weight = torch.exp(-self._decay * torch.arange(len(self._plans), dtype=torch.float32))
        weight /= weight.sum()
        now = [(plan.position[age], plan.gripper[age]) for plan, age in zip(self._plans, ages, strict=True)]
        position, gripper = chunk.position.clone(), chunk.gripper.clone()
        position[0] = (weight[:, None] * torch.stack([point for point, _ in now])).sum(0)
        gripper[0] = (weight * torch.stack([closing for _, closing in now])).sum()
        return chunk._replace(position=position, gripper=gripper)


def _command(
    state: Proprioception, chunk: ActionChunk, point: int, config: ControllerConfig
) -> Float[np.ndarray, "7"]:
    rotation = chunk.rotation[point].double().numpy() if config.rotation == "predicted" else None
    closed = float(chunk.gripper[point] > CLOSED)
    return servo.command(state, chunk.position[point].double().numpy(), rotation, closed, config)


def _checked(chunk: ActionChunk, config: ControllerConfig) -> ActionChunk:
    if len(chunk.position) < config.execute:
        raise UserError(
            f"the policy predicts {len(chunk.position)} points, controller.execute asks for {config.execute}; "
            f"set --controller.execute {len(chunk.position)} or less"
        )
    if not bool(torch.isfinite(chunk.position).all()):
        raise ValueError(f"the policy asked for a point that is not a number: {chunk.position.tolist()}")
    return chunk
