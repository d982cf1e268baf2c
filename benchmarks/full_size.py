"""SVD's UNet with random weights, and inputs of its real size, for benchmarks/gpu.py.

With `--small` on the command line a small UNet of the class, to try the code without a GPU.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from diffusers import UNetSpatioTemporalConditionModel
from torch.utils.flop_counter import FlopCounterMode

from vidpara.config import UNetConfig
from vidpara.models.cross_attention import use_single_token
from vidpara.models.svd import random_unet

SMALL = "--small" in sys.argv
SIZES = {"7x320x576": (7, 40, 72), "14x256x256": (14, 32, 32)}
"""Frames and latent rows and columns."""
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def build(shortcut: bool = True) -> UNetSpatioTemporalConditionModel:
    """SVD's UNet with random weights, or a small one of the class."""
    with torch.device(DEVICE):
        if SMALL:
            unet = random_unet(UNetConfig(channels=(32, 64), attention=(True, True), context_dim=1024), 4, 7)
        else:
            unet = UNetSpatioTemporalConditionModel(sample_size=96, num_attention_heads=(5, 10, 20, 20))
    if shortcut:
        use_single_token(unet)
    return unet


def inputs(size: str, batch: int) -> tuple[torch.Tensor, ...]:
    frames, rows, columns = SIZES[size]
    if SMALL:
        rows, columns = 8, 8
    return (
        torch.randn(batch, frames, 8, rows, columns, device=DEVICE),
        torch.zeros(batch, device=DEVICE),
        torch.randn(batch, 1, 1024, device=DEVICE),
        torch.ones(batch, 3, device=DEVICE),
    )


def flops(size: str) -> float:
    """TFLOP of one forward of one clip, counted by torch on this shape."""
    unet = build()
    with torch.no_grad(), autocast(), FlopCounterMode(display=False) as counter:
        unet(*inputs(size, 1), return_dict=False)
    return counter.get_total_flops() / 1e12


def autocast() -> Any:
    return torch.autocast(DEVICE.type, torch.bfloat16)
