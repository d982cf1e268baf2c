"""Readouts of a feature: angles are on a circle, and lie between bins where they must."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vidpara.geometry.rotation import wrap
from vidpara.heads.readout import angle_loss, angle_of

COUNT = 32
angles = st.floats(-math.pi, math.pi)


def learnt(angle: torch.Tensor) -> torch.Tensor:
    """Logits that `angle_loss` is lowest for: those of its own target, got from its gradient at equal logits."""
    logits = torch.zeros(*angle.shape, COUNT, requires_grad=True)
    angle_loss(logits, angle).sum().backward()
    assert logits.grad is not None
    return (1 / COUNT - logits.grad).clamp_min(1e-9).log()


@given(angles)
def test_the_mean_around_the_best_bin_is_the_angle_that_was_learnt(angle):
    angle = torch.tensor([angle], dtype=torch.float32)
    assert wrap(angle_of(learnt(angle), "local_mean") - angle).abs().item() < 1e-3


def test_a_hand_that_does_not_turn_can_be_said():
    """Of an even number of bins none has its centre at 0."""
    logits = learnt(torch.zeros(3))
    assert angle_of(logits, "local_mean").abs().max() < 1e-3
    assert angle_of(logits, "argmax").abs().min() == pytest.approx(math.pi / COUNT)


def test_just_below_and_just_above_half_a_turn_are_one_angle():
    logits = torch.randn(COUNT)
    below, above = (angle_loss(logits, torch.tensor(side * (math.pi - 1e-5))) for side in (1, -1))
    assert below.item() == pytest.approx(above.item(), abs=1e-3)
