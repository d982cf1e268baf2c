"""What a policy may be told to do differently at run time, and that it still says the same."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import policies
from vidpara.config import ClipConfig, ControllerConfig, DataConfig, EvaluateConfig
from vidpara.types import Observation

ROOT = Path(__file__).parents[1]


@torch.no_grad()
def test_looks_in_bf16_are_those_in_float32_rounded():
    policy, seen = policies.policy(policies.settings()).eval(), policies.observation()
    latents, context = torch.randn(1, 16, 16, 16), torch.zeros(1, 1, 64)
    expected, chunk = policy.features(latents, context).grid, policy.act(seen)
    policy.halve()
    assert next(policy.backbone.parameters()).dtype == torch.bfloat16
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        rounded = policy.features(latents, context).grid.float()
    assert (rounded - expected).norm() < 0.02 * expected.norm()
    lowered = policy.act(seen)
    policy.act_on_latents(
        latents, context, seen.state, seen.camera
    )  # as held-out clips are read, from float32 latents
    assert lowered.position.dtype == torch.float32 and not torch.equal(lowered.position, chunk.position)
    torch.testing.assert_close(lowered.position, chunk.position, atol=0.002, rtol=0)  # metres


@pytest.mark.parametrize(
    "image", [np.zeros((8, 8, 3), np.float32), np.zeros((3, 8, 8), np.uint8), np.zeros((8, 8, 4), np.uint8)]
)
def test_an_image_that_is_no_picture_of_bytes_is_refused(image):
    """In [0, 1] it would be black to the policy, without a word."""
    with pytest.raises(ValueError, match=r"expected uint8 of shape \(height, width, 3\)"):
        Observation.of(image, np.eye(3), np.eye(4), np.zeros(3), 0.08)


def test_an_evaluation_says_what_it_does_unlike_the_training():
    differences = runpy.run_path(str(ROOT / "stages/evaluate_policy.py"))["differences"]
    assert list(differences(EvaluateConfig(), DataConfig(), 20.0)) == []
    trained = DataConfig(camera="frontview", clip=ClipConfig(stride=6))
    pace, camera = differences(EvaluateConfig(), trained, 20.0)
    assert "2 times as fast" in pace and "data.clip.stride" in pace
    assert "frontview" in camera and "agentview" in camera
    slower = 9.98  # about every second of the simulator's control steps is a moment
    assert "6.01 control steps apart" in next(differences(EvaluateConfig(), DataConfig(), slower))
    other = EvaluateConfig(controller=ControllerConfig(steps_per_point=6))
    assert list(differences(other, DataConfig(), slower)) == []
