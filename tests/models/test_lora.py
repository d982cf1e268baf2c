"""Adapters through the real peft, which `make test` installs."""

from __future__ import annotations

import copy
import sys
from dataclasses import replace

import pytest
import torch
from diffusers import UNetSpatioTemporalConditionModel

from vidpara.build import build_unet
from vidpara.cli import UserError
from vidpara.config import UNetConfig
from vidpara.models.lora import add_lora, merge_lora
from vidpara.models.svd import random_unet

SMALL = UNetConfig(channels=(32, 64), attention=(True, True), context_dim=16)


def inputs():
    return torch.randn(1, 3, 8, 8, 8), torch.tensor([1.0]), torch.randn(1, 1, 16), torch.rand(1, 3)


def test_adapters_begin_as_nothing_learn_alone_and_merge_into_an_ordinary_unet():
    plain = random_unet(SMALL, 4, 3)
    adapted, given = copy.deepcopy(plain), inputs()
    add_lora(adapted, rank=2)
    before = adapted(*given).sample
    torch.testing.assert_close(before, plain(*given).sample)
    learning = [name for name, parameter in adapted.named_parameters() if parameter.requires_grad]
    assert learning and all("lora_" in name for name in learning)
    optimizer = torch.optim.SGD([p for p in adapted.parameters() if p.requires_grad], lr=1.0)
    for _ in range(2):  # the first step moves only the factor that begins at zero
        adapted(*given).sample.square().mean().backward()
        optimizer.step()
    after = adapted(*given).sample
    assert not torch.allclose(after, before)
    merge_lora(adapted)
    assert adapted.state_dict().keys() == plain.state_dict().keys()
    torch.testing.assert_close(adapted(*given).sample, after)


def test_the_option_trains_a_hundredth_of_the_weights():
    unet = build_unet(UNetConfig(channels=(64, 64), attention=(True, True), context_dim=16, lora=1), 4, 3)
    trained = sum(p.numel() for p in unet.parameters() if p.requires_grad)
    assert 0 < trained < 0.02 * sum(p.numel() for p in unet.parameters())


def test_every_adapter_that_learns_gets_a_gradient():
    """Of a cross-attention with one token the queries and keys have no effect; data parallelism would wait for them."""
    unet = build_unet(replace(SMALL, lora=2), 4, 3)
    unet(*inputs()).sample.square().mean().backward()
    learning = {name: parameter for name, parameter in unet.named_parameters() if parameter.requires_grad}
    assert learning and not [name for name, parameter in learning.items() if parameter.grad is None]


def test_a_narrower_unet_learns_to_read_the_present_frame_beside_its_adapters(tmp_path):
    """What it reads it with begins at zero; frozen it would never see it."""
    own = random_unet(SMALL, 4, 3).config
    narrow = UNetSpatioTemporalConditionModel.from_config({**own, "in_channels": 4})
    narrow.save_pretrained(tmp_path / "unet")
    unet = build_unet(replace(SMALL, lora=2, weights=str(tmp_path)), 4, 3)
    assert unet.conv_in.weight.shape[1] == 8 and unet.conv_in.weight.requires_grad
    assert not unet.conv_out.weight.requires_grad


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(UserError, match=r"pip install -e '\.\[peft\]'"):
        build_unet(replace(SMALL, lora=2), 4, 3)
