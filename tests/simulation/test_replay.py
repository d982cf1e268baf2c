"""Recorded actions in the real simulator: right, and broken on purpose."""

from __future__ import annotations

import numpy as np
import pytest
from once import made_once
from simulation.stored_files import record_one

from vidpara.config import SceneConfig
from vidpara.data.demo_states import read_stored
from vidpara.simulation.controller import ROTATION, TRANSLATION
from vidpara.simulation.replay import Replay, StoredTask, carry_out_all, replay
from vidpara.types import StoredDemo

pytestmark = [pytest.mark.sim, pytest.mark.slow]


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> StoredDemo:
    return read_stored(made_once(tmp_path_factory, "one_demo", record_one), "demo_0")


@pytest.fixture(scope="module")
def task():
    found = StoredTask(SceneConfig())
    yield found
    found.close()


def carried_out(task: StoredTask, demo: StoredDemo) -> Replay:
    return carry_out_all(task, [demo], print)


def test_right_actions_lead_where_the_recording_says(demo):
    found = replay([demo])
    assert found.rows == len(demo.actions) and not found.found and found.seconds > 0
    assert found.apart[0].mean < 0.002 and found.apart[0].gap < 0.005


def test_a_recording_that_begins_in_motion_is_followed_too(task, demo):
    rows = {name: getattr(demo, name)[12:] for name in ("actions", "states", "position", "gripper_states")}
    found = carried_out(task, demo._replace(**rows, joint_states=demo.joint_states[12:]))
    assert found.apart[0].mean < 0.002 and not found.found


def scaled(*factors: float):
    return lambda actions: actions * np.array(factors)


def moved(rows: int):
    """As if every command had been written so many rows later; those at the end repeat."""
    return lambda actions: actions[np.clip(np.arange(len(actions)) - rows, 0, len(actions) - 1)]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (scaled(1, 1, 1, 1, 1, 1, -1), "the gripper's sign is inverted"),
        (moved(1), "the actions stand 1 row too late"),
        (moved(-1), "the actions stand 1 row too early"),
        (lambda actions: actions[:, [1, 0, 2, 3, 4, 5, 6]], "x and y are swapped"),
        (scaled(*[TRANSLATION] * 3, *[ROTATION] * 3, 1), "the actions are metres and radians"),
    ],
)
def test_what_is_wrong_with_actions_is_named_with_a_fix(task, demo, change, words):
    found = carried_out(task, demo._replace(actions=change(demo.actions)))
    assert found.found == words and found.fix
    assert found.explained < 0.5 * found.unexplained


def test_noise_for_actions_has_no_explanation(task, demo):
    noise = np.random.default_rng(0).uniform(-1, 1, demo.actions.shape)
    found = carried_out(task, demo._replace(actions=noise))
    assert found.apart[0].mean > 0.02 and not found.found
