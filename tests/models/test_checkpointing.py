"""Checkpointing changes what is kept, not what is computed."""

from __future__ import annotations

import copy

import torch

from vidpara.config import UNetConfig
from vidpara.models.checkpointing import checkpoint_layers
from vidpara.models.saved import activations
from vidpara.models.svd import random_unet, tapped

SMALL = UNetConfig(channels=(32, 64), attention=(True, True), context_dim=16)


def losses_and_features(unet, inputs):
    with tapped(unet, (0, 1), stop=False) as reached:
        output = unet(*inputs, return_dict=False)[0]
    return output.square().mean() + sum(x.square().mean() for x in reached), reached


def test_losses_gradients_and_taps_are_equal():
    plain = random_unet(SMALL, 4, 3)
    kept = copy.deepcopy(plain)
    checkpoint_layers(kept)
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
    checkpoint_layers(unet)
    after = activations(unet, lambda: unet(*inputs))
    assert after.bytes < before.bytes / 3
    assert 0 < after.largest < before.bytes
    assert before.largest == 0
