"""Bytes kept for the backward pass at SVD's real size: diffusers' gradient checkpointing over ours.

Counted with fake tensors on the real configuration, 7 frames of 320 x 576, one clip, bf16 autocast. Guard: gradients of
a small UNet are equal, and there are as many, but for what attention to a single token leaves idle.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from typing import Literal

import torch
from diffusers import UNetSpatioTemporalConditionModel
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from benchmarks.harness import report
from vidpara.config import UNetConfig
from vidpara.models.activations import activations
from vidpara.models.checkpointing import checkpoint_layers
from vidpara.models.cross_attention import use_single_token
from vidpara.models.svd import random_unet

FRAMES, ROWS, COLUMNS = 7, 40, 72
IDLE = r"transformer_blocks\.\d+\.(norm2|attn2\.to_[qk])\."
"""Weights that attention to a single token leaves without effect."""


def kept(prepare) -> tuple[int, int]:
    """(kept bytes, most that one checkpointed layer adds while it is computed again) after `prepare(unet)`."""
    with FakeTensorMode():
        unet = UNetSpatioTemporalConditionModel(sample_size=96, num_attention_heads=(5, 10, 20, 20)).train()
        prepare(unet)
        inputs = (
            torch.randn(1, FRAMES, 8, ROWS, COLUMNS), torch.tensor([1.0]), torch.randn(1, 1, 1024), torch.rand(1, 3),
        )  # fmt: skip
        with torch.autocast("cpu", torch.bfloat16):
            saved = activations(unet, lambda: unet(*inputs, return_dict=False))
        return saved.bytes, saved.largest


def ours(unet: nn.Module, kind: Literal["finest", "layers"] = "layers") -> None:
    use_single_token(unet)
    checkpoint_layers(unet, kind)


def gradients_are_equal(prepare: Callable[[nn.Module], None] = ours) -> bool:
    """Whether a small UNet has the same gradients after `prepare`, and of every weight but the idle ones."""
    small = UNetConfig(channels=(32, 64), attention=(True, True), context_dim=16)
    plain = random_unet(small, 4, 3)
    saving = copy.deepcopy(plain)
    prepare(saving)
    inputs = (torch.randn(1, 3, 8, 8, 8), torch.tensor([1.0]), torch.randn(1, 1, 16), torch.rand(1, 3))
    theirs, mine = (gradients(unet, inputs) for unet in (plain, saving))
    needed = {name for name, _ in plain.named_parameters() if not re.search(IDLE, name)}
    return needed == mine.keys() <= theirs.keys() and all(
        torch.allclose(theirs[name], value, atol=1e-6) for name, value in mine.items()
    )


def gradients(unet: nn.Module, inputs: tuple[torch.Tensor, ...]) -> dict[str, torch.Tensor]:
    """Those that there are, by the weight's name."""
    unet(*inputs).sample.square().mean().backward()
    return {name: value.grad for name, value in unet.named_parameters() if value.grad is not None}


if __name__ == "__main__":
    nothing, _ = kept(lambda unet: None)
    theirs, their_layer = kept(lambda unet: unet.enable_gradient_checkpointing())
    mine, my_layer = kept(ours)
    finest, its_layer = kept(lambda unet: ours(unet, "finest"))
    gib = 2**30
    report(
        "activation_memory", [theirs / gib], [mine / gib], "GiB kept for the backward pass", gradients_are_equal(), 4.5,
        without=round(nothing / gib, 2), with_largest_layer=[
            round((theirs + their_layer) / gib, 2), round((mine + my_layer) / gib, 2),
        ], finest=[round(finest / gib, 2), round((finest + its_layer) / gib, 2)],
    )  # fmt: skip
