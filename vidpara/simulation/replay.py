"""Recorded actions carried out again: do they lead where the recording says? If not, which other reading of them does?

A demo is set to a recorded state and its commands are carried out open loop. Of the hidden state, the gripper's target
is taken as fully commanded already, and the orientation goal as the home orientation; robosuite stores neither.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from vidpara.cli import UserError
from vidpara.config import SceneConfig
from vidpara.simulation import workers
from vidpara.simulation.controller import ROTATION, TRANSLATION
from vidpara.types import Float, StoredDemo

RIGHT = 0.002
"""Metres, on average over a demo, up to which a replay needs no other reading."""
GAP = 0.01
"""The same for the opening of the gripper."""
CLEAR = 0.5
"""Share of the recorded reading's error that another reading may have to be named."""
ROWS = 60
"""Rows that other readings are tried on."""
UNITS = np.array([TRANSLATION] * 3 + [ROTATION] * 3 + [1.0])
AXES = "xyz"


class Apart(NamedTuple):
    """How far a replay is from its recording, in metres."""

    mean: float
    worst: float
    end: float
    gap: float
    """Of the gripper's opening, on average."""
    length: float
    """The replayed path's, over the recorded one's."""

    @property
    def right(self) -> bool:
        return self.mean < RIGHT and self.gap < GAP

    @property
    def score(self) -> float:
        return self.mean + self.gap


class Reading(NamedTuple):
    """Another way to understand the actions: `shift` takes the command of so many rows later."""

    found: str
    fix: str
    change: Callable[[Float[np.ndarray, "t 7"]], Float[np.ndarray, "t 7"]]
    shift: int = 0


class Replay(NamedTuple):
    """Demos carried out, and the reading that explains the worst one better than the recorded one, if any does."""

    rows: int
    apart: tuple[Apart, ...]
    found: str
    fix: str
    explained: float
    """Mean distance (metres) under that reading; that of the recorded one over the same rows is `unexplained`."""
    unexplained: float
    seconds: float


class StoredTask:
    """A file's task in the simulator, without rendering."""

    def __init__(self, scene: SceneConfig) -> None:
        from vidpara.simulation import demo_models, libero  # imports the simulator: in the worker alone

        self._libero, self._models = libero, demo_models
        self._environment: Any = None
        self._key: tuple[str, str] = ("", "")

    def load(self, demo: StoredDemo) -> None:
        """Take the demo's task and model.

        Raises:
            UserError: LIBERO does not know the task, or the model cannot be loaded.
        """
        if demo.task != self._key[0]:
            self.close()
            bddl = self._models.bddl_of(demo.task)
            self._environment = self._libero.environment(bddl, has_offscreen_renderer=False)
        if (demo.task, demo.model_xml) != self._key:
            self._models.load_model(demo)  # names what is wrong with it
            try:
                self._environment.reset_from_xml_string(self._models.installed(demo.model_xml))
            except (ValueError, KeyError) as error:  # robosuite looks for what the task names
                raise UserError(
                    f"{demo.name}: the stored model is not of the task '{demo.task}' that the file names ({error})"
                ) from error
        self._key = (demo.task, demo.model_xml)

    def carry_out(
        self, demo: StoredDemo, actions: Float[np.ndarray, "n 7"], start: int
    ) -> tuple[Float[np.ndarray, "n 3"], Float[np.ndarray, "n"]]:
        """Positions of the end effector and openings of the gripper (metres) after each action, from row `start`."""
        self._libero.reset(self._environment)
        robot, sim = self._environment.robots[0], self._environment.sim
        robot.gripper.current_action = np.array([-1.0, 1.0]) * np.sign(actions[0, -1])
        sim.data.qacc_warmstart[:] = 0
        sim.set_state_from_flattened(demo.states[start])
        sim.forward()
        robot.controller.update(force=True)  # it remembers the pose from before
        positions, openings = [], []
        for action in actions:
            self._environment.step(action)
            positions.append(sim.data.site_xpos[robot.eef_site_id].copy())
            openings.append(float(np.abs(sim.data.qpos[robot._ref_gripper_joint_pos_indexes]).sum()))
        return np.array(positions), np.array(openings)

    def close(self) -> None:
        if self._environment is not None:
            self._environment.close()


def replay(demos: Sequence[StoredDemo]) -> Replay:
    """Carry out the demos' actions in a simulator of its own process.

    Raises:
        UserError: there is no simulator, or a demo's task or model is not of it.
    """
    began = time.monotonic()
    ((_, result),) = workers.run([list(demos)], carry_out_all, SceneConfig(), 1, make=StoredTask)
    return result._replace(seconds=time.monotonic() - began)


def carry_out_all(task: StoredTask, demos: list[StoredDemo], ask: workers.Ask) -> Replay:
    """Worker function: all demos as they are recorded; then other readings of the one that is farthest from right."""
    apart = []
    for demo in demos:
        task.load(demo)
        apart.append(try_reading(task, demo, AS_RECORDED, len(demo.actions)))
    rows = sum(len(demo.actions) for demo in demos)
    nothing = Replay(rows, tuple(apart), "", "", 0.0, 0.0, 0.0)
    if all(each.right for each in apart):
        return nothing
    demo = demos[int(np.argmax([each.score for each in apart]))]
    task.load(demo)
    before = try_reading(task, demo, AS_RECORDED, ROWS)
    best, least = AS_RECORDED, before
    for reading in readings(before):
        after = try_reading(task, demo, reading, ROWS)
        if after.score < least.score:
            best, least = reading, after
        if after.right and after.score < CLEAR * before.score:
            break
    if least.score >= CLEAR * before.score:
        return nothing
    return nothing._replace(found=best.found, fix=best.fix, explained=least.mean, unexplained=before.mean)


def try_reading(task: StoredTask, demo: StoredDemo, reading: Reading, rows: int) -> Apart:
    """How far the first `rows` are from the recording under a reading of the actions."""
    first, shift = max(0, -reading.shift), reading.shift
    last = min(len(demo.actions) - max(0, shift), first + rows)
    actions = reading.change(demo.actions[first + shift : last + shift].copy())
    position, opening = task.carry_out(demo, actions, first)
    away = np.linalg.norm(position - demo.position[first:last], axis=1)
    gap = np.abs(opening - np.abs(demo.gripper_states[first:last]).sum(1))
    recorded = _path(demo.position[first:last])
    return Apart(
        float(away.mean()), float(away.max()), float(away[-1]), float(gap.mean()),
        _path(position) / recorded if recorded else 1.0,
    )  # fmt: skip


def readings(recorded: Apart) -> Iterator[Reading]:
    """What is commonly wrong with actions, what the gripper says first."""
    if recorded.gap >= GAP:
        yield _scaled(
            "the gripper's sign is inverted", "negate the seventh number: -1 opens, +1 closes", 6, -1
        )
    for shift in (1, -1, 2, -2):
        rows, late = f"{abs(shift)} row{'s' if abs(shift) > 1 else ''}", shift > 0
        yield Reading(
            f"the actions stand {rows} too {'late' if late else 'early'}",
            f"move them {'up' if late else 'down'} by {rows}: action j leads from state j to observation j",
            lambda actions: actions,
            shift,
        )
    for axis, name in enumerate(AXES):
        yield _scaled(
            f"{name} is negated", f"negate the actions' {name}: they are in the world's axes", axis, -1
        )
    for a, b in ((0, 1), (0, 2), (1, 2)):
        yield _swapped(a, b)
    yield Reading(
        "the actions are metres and radians",
        f"divide them by {TRANSLATION} m and {ROTATION} rad: OSC_POSE takes shares of these",
        lambda actions: actions / UNITS,
    )
    if recorded.length > 0 and abs(np.log(recorded.length)) > np.log(1.3):
        factor = 1 / recorded.length
        yield _scaled(
            f"the translations are about {recorded.length:.2g} times as long as those that were carried out",
            f"multiply the first three numbers by about {factor:.2g}: 1 is {TRANSLATION} m",
            slice(0, 3), factor,
        )  # fmt: skip


def _scaled(found: str, fix: str, part: int | slice, factor: float) -> Reading:
    def change(actions: Float[np.ndarray, "t 7"]) -> Float[np.ndarray, "t 7"]:
        actions[:, part] *= factor
        return actions

    return Reading(found, fix, change)


def _swapped(a: int, b: int) -> Reading:
    def change(actions: Float[np.ndarray, "t 7"]) -> Float[np.ndarray, "t 7"]:
        actions[:, [a, b]] = actions[:, [b, a]]
        return actions

    names = f"{AXES[a]} and {AXES[b]}"
    return Reading(f"{names} are swapped", f"swap the actions' {names}: they are in the world's axes", change)


def _path(position: Float[np.ndarray, "t 3"]) -> float:
    return float(np.linalg.norm(np.diff(position, axis=0), axis=1).sum())


AS_RECORDED = Reading("", "", lambda actions: actions)
