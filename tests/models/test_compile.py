"""Compiled layers give what plain ones give, with taps, early exit and checkpointing.

Dynamo's own backend stands in for the inductor, which takes minutes for each layer on a CPU: what can break is the
tracing of hooks, checkpoints and exceptions, and that is real here.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from vidpara.build import build_unet
from vidpara.config import DiffusionConfig, UNetConfig
from vidpara.models.svd import VideoModel

# Without our own attention: the tests check its annotations at run time, which Dynamo cannot trace.
SMALL = UNetConfig(channels=(32, 32), attention=(False, True), context_dim=16, single_token=False)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_compiled_layers_give_the_features_and_gradients_of_plain_ones(
    monkeypatch: pytest.MonkeyPatch, checkpointing: bool
):
    compiled: list[nn.Module] = []

    def by_dynamo(module: nn.Module) -> None:
        compiled.append(module)
        module._compiled_call_impl = torch.compile(module._call_impl, backend="eager")

    monkeypatch.setattr(nn.Module, "compile", by_dynamo)
    plain, traced = (
        VideoModel(
            build_unet(replace(SMALL, compile=chosen, checkpointing=checkpointing), 4, 3), DiffusionConfig()
        )
        for chosen in (False, True)
    )
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
