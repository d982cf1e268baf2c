"""The shortcut for one context token equals diffusers' attention, forward and backward."""

from __future__ import annotations

import copy

import pytest
import torch

from vidpara.config import UNetConfig
from vidpara.models.cross_attention import use_single_token
from vidpara.models.svd import random_unet

SMALL = UNetConfig(channels=(32, 64), attention=(True, True), context_dim=16)


def arguments(tokens: int = 1):
    return (
        torch.randn(2, 3, 8, 8, 8), torch.tensor([1.0, 0.3]), torch.randn(2, tokens, 16), torch.rand(2, 3),
    )  # fmt: skip


def test_outputs_and_gradients_are_those_of_attention():
    plain = random_unet(SMALL, 4, 3)
    short = copy.deepcopy(plain)
    use_single_token(short)
    inputs = arguments()
    expected, found = (unet(*inputs, return_dict=False)[0] for unet in (plain, short))
    torch.testing.assert_close(found, expected)
    for output in (expected, found):
        output.square().mean().backward()
    frozen = 0
    for (name, theirs), ours in zip(plain.named_parameters(), short.parameters(), strict=True):
        assert theirs.grad is not None
        if ours.requires_grad:
            assert ours.grad is not None, name
            torch.testing.assert_close(ours.grad, theirs.grad, msg=name)
        else:
            frozen += 1
            assert theirs.grad.abs().max() < 1e-9, name  # rounding: frozen only because it has no effect
    assert frozen == 7 * 2 * (2 + 1 + 1)  # norm2's two, to_q, to_k of seven spatial and seven temporal blocks


def test_queries_keys_and_the_norm_before_them_are_not_computed():
    """A hook runs where a module is called; the norm's own work, which it no longer does, is counted by its name."""
    unet = random_unet(SMALL, 4, 3)
    use_single_token(unet)
    called, norms = [], 0
    for name, module in unet.named_modules():
        if name.endswith(("attn2.to_q", "attn2.to_k")):
            module.register_forward_hook(lambda *_, name=name: called.append(name))
    with torch.profiler.profile() as profile:
        unet(*arguments())
    norms = next(each.count for each in profile.key_averages() if each.key == "aten::layer_norm")
    assert not called and norms == 7 * (
        2 + 3
    )  # spatial blocks have norm1 and norm3, temporal ones norm_in besides


def test_several_tokens_are_refused():
    unet = random_unet(SMALL, 4, 3)
    use_single_token(unet)
    with pytest.raises(ValueError, match="2 tokens"):
        unet(*arguments(tokens=2))


def test_the_weights_keep_their_names():
    unet = random_unet(SMALL, 4, 3)
    names = list(unet.state_dict())
    use_single_token(unet)
    assert list(unet.state_dict()) == names
