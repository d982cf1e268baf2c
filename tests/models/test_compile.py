"""Compiled layers give what plain ones give, with taps, early exit and checkpointing.

Dynamo's own backend stands in for the inductor, which takes minutes for each layer on a CPU: what can break is the
tracing of hooks, checkpoints and exceptions, and that is real here.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import Literal

import pytest
import torch
from torch import _dynamo as dynamo
from torch import nn

from vidpara.build import build_unet
from vidpara.config import DiffusionConfig, UNetConfig
from vidpara.models.svd import VideoModel

# Without our own attention, whose annotations tests check at run time, which Dynamo cannot trace; see ALONE.
SMALL = UNetConfig(channels=(32, 32), attention=(False, True), context_dim=16, single_token=False)


def by_dynamo(module: nn.Module, fullgraph: bool = False) -> None:
    """`Module.compile` without the inductor."""
    module._compiled_call_impl = torch.compile(module._call_impl, backend="eager", fullgraph=fullgraph)


def test_our_own_attention_is_compiled_too():
    """In a process of its own, without the checks of annotations that Dynamo cannot trace."""
    done = subprocess.run([sys.executable, "-c", ALONE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


ALONE = """
import torch
import subprocess
import sys
from dataclasses import replace
from vidpara.build import build_unet
from vidpara.config import UNetConfig

small = UNetConfig(channels=(32, 32), attention=(False, True), context_dim=16, single_token=True)
plain, traced = (build_unet(small, 4, 3) for _ in range(2))
traced.load_state_dict(plain.state_dict())
for layer in (*traced.down_blocks, traced.mid_block, *traced.up_blocks):
    layer._compiled_call_impl = torch.compile(layer._call_impl, backend="eager", fullgraph=True)
given = torch.randn(1, 3, 8, 8, 8), torch.zeros(1), torch.randn(1, 1, 16), torch.ones(1, 3)
torch.testing.assert_close(traced(*given)[0], plain(*given)[0], rtol=1e-4, atol=1e-5)
"""


def test_every_layer_of_a_deep_unet_is_compiled(monkeypatch: pytest.MonkeyPatch):
    """`fullgraph` makes an error of what torch would otherwise leave uncompiled after some variants."""
    monkeypatch.setattr(nn.Module, "compile", lambda module: by_dynamo(module, fullgraph=True))
    deep = replace(SMALL, channels=(32, 64), attention=(False, False), compile=True)
    with dynamo.config.patch(recompile_limit=2), torch.no_grad():
        unet = build_unet(deep, 4, 3)
        unet(torch.randn(1, 3, 8, 8, 8), torch.zeros(1), torch.randn(1, 1, 16), torch.ones(1, 3))


@pytest.mark.parametrize("checkpointing", ["none", "finest", "layers"])
def test_compiled_layers_give_the_features_and_gradients_of_plain_ones(
    monkeypatch: pytest.MonkeyPatch, checkpointing: Literal["none", "finest", "layers"]
):
    monkeypatch.setattr(nn.Module, "compile", by_dynamo)
    plain, traced = (
        VideoModel(
            build_unet(replace(SMALL, compile=chosen, checkpointing=checkpointing), 4, 3), DiffusionConfig()
        )
        for chosen in (False, True)
    )
    compiled = [module for module in traced.modules() if module._compiled_call_impl is not None]
    assert len(compiled) > 5
    traced.load_state_dict(plain.state_dict())  # the names are those of plain layers
    clip, sigma, still = torch.randn(2, 3, 4, 8, 8), torch.tensor([700.0, 1.0]), torch.zeros(2)
    found = []
    for model in (plain, traced):
        prediction, _ = model.predict(clip, sigma, clip[:, 0], torch.zeros(2, 1, 16), still)
        prediction.square().mean().backward()
        _, features = model.predict(clip, sigma, clip[:, 0], torch.zeros(2, 1, 16), still, (0,), output=False)
        assert features is not None
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        found.append((prediction, features.grid, *gradients))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-6)
