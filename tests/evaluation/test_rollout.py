from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tests.evaluation.fakes import GOAL, STEPS, TABLE, PointMass, Scripted, start
from vidpara.cli import UserError
from vidpara.config import ControllerConfig, SceneConfig
from vidpara.evaluation.rollout import EpisodeResult, TemporalEnsemble, run_episode
from vidpara.types import ActionChunk, Observation

CONFIG = ControllerConfig()


def run(policy: Scripted, config: ControllerConfig = CONFIG, max_steps: int = 100, record: bool = False):
    simulator = PointMass(SceneConfig())

    def ask(observation: Observation) -> ActionChunk:
        batched = Observation(
            observation.image[None],
            type(observation.camera)(*(x[None] for x in observation.camera)),
            type(observation.state)(*(x[None] for x in observation.state)),
        )
        with torch.no_grad():
            return ActionChunk(*(field[0] for field in policy.act(batched)))

    return simulator, run_episode(simulator, ask, start(), config, max_steps, record)


def test_an_episode_ends_as_place_at_the_first_step_of_success():
    simulator, result = run(Scripted())
    assert result.outcome == "PLACE"
    assert np.linalg.norm(simulator.position[:2] - GOAL) < 0.03
    assert result.steps < 60


def test_an_object_lifted_but_not_placed_is_a_grasp():
    _, result = run(Scripted(goal_xy=(-0.1, -0.1)))
    assert (result.outcome, result.steps) == ("GRASP", 100)


def test_an_object_never_lifted_is_a_miss():
    simulator, result = run(Scripted(object_xy=(0.1, 0.0)))
    assert (result.outcome, result.steps) == ("MISS", 100)
    assert result.away == pytest.approx(np.linalg.norm((simulator.object - simulator.goal)[:2]))
    assert result.away > 0.05


def test_an_object_once_lifted_and_dropped_is_still_a_grasp():
    class Dropping(Scripted):
        def act(self, observation: Observation) -> ActionChunk:
            chunk, holding = super().act(observation), observation.state.opening == 0
            lift_and_let_go = chunk.gripper * (torch.arange(STEPS) == 0)
            return chunk._replace(gripper=torch.where(holding[:, None], lift_and_let_go, chunk.gripper))

    simulator, result = run(Dropping(), max_steps=40)
    assert result.outcome == "GRASP"
    assert simulator.object[2] == TABLE


def test_the_camera_is_rendered_only_when_the_policy_looks():
    simulator, result = run(Scripted())
    assert simulator.observed == result.looks > 1


def test_recording_changes_nothing_but_the_frames():
    plain, recorded = run(Scripted())[1], run(Scripted(), record=True)[1]
    assert plain._replace(frames=()) == recorded._replace(frames=())
    assert plain.frames == ()
    moments = [frame.step for frame in recorded.frames]
    assert len(moments) > plain.looks + 1 and moments == sorted(set(moments))
    assert moments[-1] == recorded.steps


@pytest.mark.parametrize("execute", [1, 2, STEPS])
def test_a_chunk_is_executed_for_as_many_points_as_configured(execute: int):
    config = ControllerConfig(execute=execute, steps_per_point=4, max_steps_per_point=4, stall=0)
    _, result = run(Scripted(object_xy=(0.1, 0.0)), config, max_steps=96)
    assert result.looks == 96 / (4 * execute)


def test_a_point_is_left_when_reached_and_at_the_latest_after_the_cap():
    near = ControllerConfig(execute=1, steps_per_point=2, max_steps_per_point=50, tolerance=10.0, stall=0)
    far = ControllerConfig(execute=1, steps_per_point=2, max_steps_per_point=50, tolerance=-1.0, stall=0)
    miss = (0.1, 0.0)
    assert run(Scripted(object_xy=miss), near)[1].looks == 50
    assert run(Scripted(object_xy=miss), far)[1].looks == 2


class Hesitant(Scripted):
    """TemporalEnsemble to stay for half of each chunk, then to go one way: looking again too early, it never goes."""

    def act(self, observation: Observation) -> ActionChunk:
        chunk, here = super().act(observation), observation.state.position[:, None]
        goes = (torch.arange(STEPS) >= STEPS // 2)[None, :, None]
        return chunk._replace(position=here + goes * torch.tensor([0.05, 0.0, 0.0]))


def test_a_plan_that_only_later_moves_is_carried_out_when_nothing_has_moved_since_the_last_look():
    start_of_plan = ControllerConfig(execute=STEPS // 2, stall=0)
    assert np.linalg.norm(run(Hesitant(), start_of_plan)[0].position[:2]) == pytest.approx(0, abs=1e-6)
    whole_plan = ControllerConfig(execute=STEPS // 2)
    assert run(Hesitant(), whole_plan)[0].position[0] > 0.1


def test_the_step_cap_holds_inside_a_chunk():
    _, result = run(Scripted(), max_steps=7)
    assert (result.outcome, result.steps) == ("MISS", 7)


def test_executing_more_points_than_predicted_is_the_users_error():
    with pytest.raises(UserError, match=r"--controller\.execute 6"):
        run(Scripted(), ControllerConfig(execute=STEPS + 1))


def test_a_point_that_is_not_a_number_is_an_error_and_no_failed_episode():
    policy = Scripted()
    policy.offset.data[0] = torch.nan
    with pytest.raises(ValueError, match="not a number"):
        run(policy)


def test_a_predicted_rotation_is_followed_only_when_configured():
    class Turning(Scripted):
        def act(self, observation: Observation) -> ActionChunk:
            chunk = super().act(observation)
            quarter = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
            return chunk._replace(rotation=quarter.expand_as(chunk.rotation).clone())

    turns: dict[str, float] = {}
    for mode in ("zero", "predicted"):
        commands: list[np.ndarray] = []

        class Noting(PointMass):
            def step(self, command: np.ndarray, noted: list[np.ndarray] = commands):
                noted.append(command)
                return super().step(command)

        simulator = Noting(SceneConfig())
        policy = Turning()

        def ask(observation: Observation, policy: Turning = policy) -> ActionChunk:
            one = Observation(
                observation.image[None],
                type(observation.camera)(*(x[None] for x in observation.camera)),
                type(observation.state)(*(x[None] for x in observation.state)),
            )
            with torch.no_grad():
                return ActionChunk(*(field[0] for field in policy.act(one)))

        run_episode(simulator, ask, start(), ControllerConfig(rotation=mode), 10)
        turns[mode] = float(np.abs(np.stack(commands)[:, 3:6]).max())
    assert turns["zero"] == 0 and turns["predicted"] > 0.5


def test_a_result_is_plain_enough_to_cross_processes():
    import pickle

    _, result = run(Scripted(), record=True)
    copy: EpisodeResult = pickle.loads(pickle.dumps(result))
    assert copy.outcome == result.outcome and len(copy.frames) == len(result.frames)


def plan(*points: float) -> ActionChunk:
    """A plan along x; the gripper closes where x is above 1."""
    x = torch.tensor(points)
    still = torch.zeros(len(x))
    return ActionChunk(
        torch.stack([x, still, still], -1),
        torch.eye(3).expand(len(x), 3, 3),
        (x > 1).float(),
        torch.zeros(len(x), 1, 1),
    )


def test_temporal_ensembling_weighs_the_plans_for_one_moment_from_the_oldest_on():
    plans = TemporalEnsemble(ControllerConfig(execute=1, stall=0, ensemble=math.log(2)))
    assert plans.merged(plan(0.0, 3.0, 6.0)).position[0, 0] == 0.0
    second = plans.merged(plan(0.0, 9.0, 6.0))  # for this moment the first plan said 3
    assert second.position[0, 0] == pytest.approx((2 * 3.0 + 1 * 0.0) / 3)
    assert second.gripper[0] == pytest.approx(2 / 3)
    assert second.position[1, 0] == 9.0
    third = plans.merged(plan(0.0, 0.0, 0.0))
    assert third.position[0, 0] == pytest.approx((4 * 6.0 + 2 * 9.0 + 1 * 0.0) / 7)
    assert plans.merged(plan(1.0, 1.0, 1.0)).position[0, 0] == pytest.approx(
        (4 * 6.0 + 2 * 0.0 + 1 * 1.0) / 7
    )


def test_temporal_ensembling_without_a_look_at_every_point_is_refused():
    with pytest.raises(UserError, match=r"--controller\.execute 1 --controller\.stall 0"):
        TemporalEnsemble(ControllerConfig(ensemble=0.01))
