"""Checkpointing changes what is kept, not what is computed."""

from __future__ import annotations

import copy
from typing import Literal

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from vidpara.config import UNetConfig
from vidpara.models.activations import activations
from vidpara.models.checkpointing import checkpoint_layers
from vidpara.models.svd import random_unet, tapped

SMALL = UNetConfig(channels=(32, 64), attention=(True, True), context_dim=16)
DEEP = UNetConfig(channels=(32, 64, 128, 128), attention=(True, True, True, False), context_dim=16)


def losses_and_features(unet, inputs):
    with tapped(unet, (0, 1), stop=False) as reached:
        output = unet(*inputs, return_dict=False)[0]
    return output.square().mean() + sum(x.square().mean() for x in reached), reached


@pytest.mark.parametrize("kind", ["finest", "layers"])
def test_losses_gradients_and_taps_are_equal(kind: Literal["finest", "layers"]):
    plain = random_unet(SMALL, 4, 3)
    kept = copy.deepcopy(plain)
    checkpoint_layers(kept, kind)
    inputs = (torch.randn(2, 3, 8, 8, 8), torch.tensor([1.0, 0.3]), torch.randn(2, 1, 16), torch.rand(2, 3))
    (expected, theirs), (found, ours) = (losses_and_features(unet, inputs) for unet in (plain, kept))
    assert len(ours) == len(theirs) == 2
    assert torch.equal(found, expected)
    expected.backward()
    found.backward()
    assert len(ours) == 2, "a hook ran again in the backward pass"
    for (name, a), b in zip(plain.named_parameters(), kept.parameters(), strict=True):
        assert a.grad is not None and b.grad is not None, name
        assert torch.equal(a.grad, b.grad), name


def test_far_less_is_kept_for_the_backward_pass():
    unet = random_unet(SMALL, 4, 3)
    inputs = (torch.randn(2, 3, 8, 8, 8), torch.tensor([1.0, 0.3]), torch.randn(2, 1, 16), torch.rand(2, 3))
    before = activations(unet, lambda: unet(*inputs))
    checkpoint_layers(unet, "layers")
    after = activations(unet, lambda: unet(*inputs))
    assert after.bytes < before.bytes / 3
    assert 0 < after.largest < before.bytes
    assert before.largest == 0


def test_the_finest_grid_is_where_most_is_kept_and_least_is_computed():
    plain = random_unet(DEEP, 4, 3)
    finest, everything = copy.deepcopy(plain), copy.deepcopy(plain)
    checkpoint_layers(finest, "finest")
    checkpoint_layers(everything, "layers")
    inputs = (torch.randn(1, 3, 8, 16, 16), torch.tensor([1.0]), torch.randn(1, 1, 16), torch.rand(1, 3))
    kept, work = [], []
    for unet in (plain, finest, everything):
        kept.append(activations(unet, lambda unet=unet: unet(*inputs)).bytes)
        with FlopCounterMode(display=False) as counter:
            unet(*inputs).sample.square().mean().backward()
        work.append(counter.get_total_flops())
    assert kept[2] < kept[1] < kept[0] / 2
    assert work[1] - work[0] < (work[2] - work[0]) / 2
