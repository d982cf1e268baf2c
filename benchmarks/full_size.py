"""SVD's models with random weights, and inputs of their real size, for benchmarks/gpu.py.

With `--small` on the command line a small UNet of the class, to try the code without a GPU.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from diffusers import AutoencoderKLTemporalDecoder, UNetSpatioTemporalConditionModel
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from benchmarks.policies import SPACE
from vidpara.build_policy import build_head
from vidpara.config import DiffusionConfig, HeadConfig, PolicyConfig, UNetConfig
from vidpara.models.autoencoder import SVDAutoencoder
from vidpara.models.cross_attention import use_single_token
from vidpara.models.image_encoder import CLIPContext
from vidpara.models.svd import VideoModel, random_unet
from vidpara.policy import VideoPolicy

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


def policy(size: str, denoising_steps: int = 1) -> VideoPolicy:
    """The reference policy: SVD's UNet, autoencoder and image encoder, and a head on decoder blocks 1 and 2."""
    frames, rows, columns = SIZES[size]
    image_size = (64, 64) if SMALL else (8 * rows, 8 * columns)
    unet = build()
    taps = (0, 1) if SMALL else (1, 2)
    channels = sum(unet.config.block_out_channels[::-1][tap] for tap in taps)
    with torch.device(DEVICE):
        vae = AutoencoderKLTemporalDecoder(
            block_out_channels=(32,) * 4 if SMALL else (128, 256, 512, 512),
            down_block_types=("DownEncoderBlock2D",) * 4, layers_per_block=1 if SMALL else 2,
        )  # fmt: skip
        small = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
        large = {
            "hidden_size": 1280,
            "intermediate_size": 5120,
            "num_hidden_layers": 32,
            "num_attention_heads": 16,
        }
        shape = small if SMALL else large
        clip = CLIPVisionModelWithProjection(CLIPVisionConfig(**shape, patch_size=14, projection_dim=1024))
    head = HeadConfig(grid=(16, 16)) if SMALL else HeadConfig(grid=(64, 64), width=128, layers=3)
    made = VideoPolicy(
        VideoModel(unet, DiffusionConfig(), 1 / vae.config.scaling_factor),
        build_head(head, channels, frames - 1, SPACE._replace(image_size=image_size)),
        SVDAutoencoder(vae), CLIPContext(clip), PolicyConfig(taps=taps, denoising_steps=denoising_steps),
        image_size, frames,
    )  # fmt: skip
    return made.to(DEVICE).eval()


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
