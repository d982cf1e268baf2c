"""Configuration -> objects: one `match` per axis."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers import AutoencoderKLTemporalDecoder, UNetSpatioTemporalConditionModel
from torch import nn
from transformers import DINOv3ViTModel

from vidpara.cli import UserError
from vidpara.config import (
    AutoencoderConfig,
    DiffusionConfig,
    ImageEncoderConfig,
    TrainPolicyConfig,
    TrainVideoConfig,
    UNetConfig,
    ViTConfig,
)
from vidpara.data.episode import Episode
from vidpara.data.latents import some_frames
from vidpara.models.adapt import adapt
from vidpara.models.autoencoder import Autoencoder, PatchPCA, SVDAutoencoder
from vidpara.models.checkpointing import checkpoint_layers
from vidpara.models.compiled import compile_layers
from vidpara.models.cross_attention import use_single_token
from vidpara.models.dinov3 import MEAN, STD, random_vit
from vidpara.models.layout import use_channels_last
from vidpara.models.lora import add_lora
from vidpara.models.pretrained import check_sizes, pretrained, subfolder
from vidpara.models.published import check_preprocessing, check_scheduler
from vidpara.models.svd import VideoModel, random_unet

PCA_FRAMES = 1024


def build_autoencoder(config: AutoencoderConfig, episodes: Sequence[Episode] = ()) -> Autoencoder:
    """The autoencoder axis; `patch_pca` without weights is fitted on frames of `episodes`."""
    match config.kind:
        case "patch_pca":
            if config.weights:
                return PatchPCA.load(Path(config.weights))
            return PatchPCA.fit(some_frames(episodes, PCA_FRAMES), config)
        case "svd":
            if config.weights is None:
                raise UserError(
                    "autoencoder.kind svd needs --autoencoder.weights (a diffusers VAE or pipeline folder)"
                )
            sub = subfolder(config.weights, "vae")
            return SVDAutoencoder(pretrained(AutoencoderKLTemporalDecoder, config.weights, sub))


def shaped_autoencoder(config: TrainPolicyConfig | TrainVideoConfig) -> Autoencoder:
    """The autoencoder of a configuration; a PCA, which is fitted on rollouts, with zeros of its shape instead."""
    chosen = config.autoencoder
    if chosen.kind == "patch_pca":
        values = 3 * chosen.patch**2
        return PatchPCA(
            torch.zeros(values, chosen.channels), torch.zeros(values), torch.ones(chosen.channels)
        )
    return build_autoencoder(chosen)


def build_image_encoder(config: ImageEncoderConfig, dim: int) -> nn.Module:
    """The cross-attention context axis; `dim` is the UNet's context width."""
    from vidpara.models.image_encoder import CLIP_MEAN, CLIP_STD, CLIPContext, ZeroContext

    match config.kind:
        case "zeros":
            return ZeroContext(dim)
        case "clip":
            from transformers import CLIPVisionModelWithProjection

            if config.weights is None:
                raise UserError(
                    "image_encoder.kind clip needs --image_encoder.weights (a CLIP or pipeline folder)"
                )
            sub = subfolder(config.weights, "image_encoder")
            clip = CLIPContext(pretrained(CLIPVisionModelWithProjection, config.weights, sub))
            if clip.dim != dim:
                raise UserError(
                    f"{config.weights} gives tokens of {clip.dim} values, the UNet's cross-attention takes {dim}; "
                    "choose the image encoder that the UNet was trained with (--image_encoder.weights)"
                )
            check_preprocessing(config.weights, sub, CLIP_MEAN, CLIP_STD, clip.clip.config.image_size)
            return clip


def build_unet(config: UNetConfig, latent_channels: int, frames: int) -> UNetSpatioTemporalConditionModel:
    """The UNet from a folder or hub id, or from random weights.

    Raises:
        UserError: loaded weights take other channels than the autoencoder gives, or are of another size than was asked
            for.
    """
    if config.weights is None:
        unet = random_unet(config, latent_channels, frames)
    else:
        sub = subfolder(config.weights, "unet")
        unet = pretrained(UNetSpatioTemporalConditionModel, config.weights, sub)
        known = unet.config
        check_sizes("unet", config, {
            "channels": tuple(known.block_out_channels), "layers_per_block": known.layers_per_block,
            "heads": known.num_attention_heads, "context_dim": known.cross_attention_dim,
        })  # fmt: skip
        if unet.config.out_channels != latent_channels:
            raise UserError(
                f"{config.weights} denoises {unet.config.out_channels} latent channels, the autoencoder gives "
                f"{latent_channels}; choose the autoencoder the UNet was trained with (--autoencoder.kind and .weights)"
            )
    if config.lora:
        add_lora(unet, config.lora)
    if config.weights:
        # After the adapters, which freeze all: what is added reads the present frame and begins at zero.
        for change in adapt(unet, 2 * latent_channels, frames):
            say(f"{config.weights}: {change}")
    if config.single_token:
        use_single_token(unet)  # after the adapters, some of which have no effect then
    if config.channels_last:
        use_channels_last(unet)
    if config.checkpointing != "none":
        checkpoint_layers(unet, config.checkpointing)
    if config.compile:
        compile_layers(unet)
    return unet


def build_video_model(
    unet: UNetConfig, diffusion: DiffusionConfig, autoencoder: Autoencoder, frames: int
) -> VideoModel:
    """The UNet with the diffusion that its weights were published with.

    Raises:
        UserError: `diffusion` is another one, or the weights do not fit.
    """
    if unet.weights:
        check_scheduler(unet.weights, diffusion)
    return VideoModel(build_unet(unet, autoencoder.channels, frames), diffusion, autoencoder.condition_scale)


def build_vit(config: ViTConfig) -> DINOv3ViTModel:
    """DINOv3 from a folder or hub id, or from random weights.

    Raises:
        UserError: loaded weights are of another size than was asked for.
    """
    if config.weights is None:
        return random_vit(config)
    check_preprocessing(config.weights, None, MEAN, STD)
    vit = pretrained(DINOv3ViTModel, config.weights, None)
    known = vit.config
    check_sizes("vit", config, {
        "patch": known.patch_size, "width": known.hidden_size, "layers": known.num_hidden_layers,
        "heads": known.num_attention_heads, "registers": known.num_register_tokens,
    })  # fmt: skip
    vit.config.pos_embed_rescale = None  # as in `random_vit`
    return vit


def say(line: str) -> None:
    """Tell the user something, once in a distributed launch."""
    if os.environ.get("RANK", "0") == "0":
        print(line, file=sys.stderr)
