"""What validations measure, on clips of noise and a small policy of random weights."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch.utils.data import default_collate

from tests.test_golden import SPACE
from tests.training.pocket import FLAGS, Noise
from vidpara.build import shaped_autoencoder
from vidpara.build_policy import build_policy
from vidpara.cli import load
from vidpara.config import LossConfig, TrainPolicyConfig
from vidpara.evaluation.evaluators import ActionErrors, plan
from vidpara.policy import Policy


def policy_and_clips(rotation: float) -> tuple[Policy, Noise]:
    config = replace(load(TrainPolicyConfig, FLAGS), loss=LossConfig(rotation=rotation))
    torch.manual_seed(0)
    policy = build_policy(config, shaped_autoencoder(config), SPACE).eval()
    return policy, Noise(0, 3, config)


def test_rotations_that_were_not_learnt_are_home_and_not_measured():
    policy, clips = policy_and_clips(rotation=0.0)
    assert "val/rotation_error" not in dict(ActionErrors(clips)(policy, 0))
    chunk = plan(policy, default_collate([clips[i] for i in range(3)]))
    assert torch.equal(chunk.rotation, torch.tensor(SPACE.home).expand_as(chunk.rotation))


def test_rotations_that_are_learnt_are_measured_in_degrees():
    policy, clips = policy_and_clips(rotation=1.0)
    found = dict(ActionErrors(clips)(policy, 0))["val/rotation_error"]
    batch = default_collate([clips[i] for i in range(3)])
    between = plan(policy, batch).rotation.mT @ batch.actions.rotation
    angle = ((between.diagonal(dim1=-2, dim2=-1).sum(-1) - 1) / 2).clamp(-1, 1).acos()
    counted = batch.actions.valid & batch.actions.has_rotation
    assert found == pytest.approx(math.degrees(angle[counted].median()), abs=0.1)
