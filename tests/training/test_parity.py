"""A batch that is cut among processes and micro-steps trains the policy like the whole one."""

from __future__ import annotations

import pytest
import torch

from benchmarks import policies
from benchmarks.parity import gradients, norm
from vidpara.cli import UserError
from vidpara.config import TrainPolicyConfig

NARROW = ("--unet.channels", "32", "64", "--unet.attention", "False", "True", "--policy.taps", "0", "1")


@pytest.fixture
def config(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> TrainPolicyConfig:
    monkeypatch.chdir(request.config.rootpath)
    return policies.settings(*NARROW)


@pytest.mark.parametrize("pieces", [2, 4])
def test_a_cut_batch_has_the_gradients_of_the_whole(config: TrainPolicyConfig, pieces: int):
    """Also in micro-batches of one clip, of which only the last trains the video model at log-normal noise."""
    whole, cut = gradients(config, 1), gradients(config, pieces)
    assert whole.keys() == cut.keys()
    assert norm([cut[name] - value for name, value in whole.items()]) < 1e-4 * norm(list(whole.values()))


def test_every_batch_trains_the_head_and_the_video_model(config: TrainPolicyConfig):
    policy = policies.policy(config)
    assert [policy.acting(count) for count in (2, 3, 4, 8, 16, 64)] == [1, 2, 3, 6, 12, 48]
    with pytest.raises(UserError, match=r"an update has 1 clip, .*: set --trainer\.accumulate 2"):
        policy.acting(1)
    assert policies.policy(policies.settings(*NARROW, "--policy.action_fraction", "1")).acting(1) == 1


def test_an_update_of_single_clips_has_log_normal_noise(
    config: TrainPolicyConfig, monkeypatch: pytest.MonkeyPatch
):
    """The recipe for a small card: one clip a micro-step, four micro-steps."""
    levels: list[float] = []
    policy = policies.policy(config)
    predict = type(policy.backbone).predict

    def seen(model, noisy, sigma: torch.Tensor, *others):
        levels.extend(sigma.tolist())
        return predict(model, noisy, sigma, *others)

    monkeypatch.setattr(type(policy.backbone), "predict", seen)
    gradients(config, 4)
    assert [level == config.policy.sigma for level in levels] == [True, True, True, False]
