"""Configuration -> objects: one `match` per axis."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from diffusers import AutoencoderKLTemporalDecoder, UNetSpatioTemporalConditionModel
from torch import nn
from transformers import DINOv3ViTModel

from vidpara import cli
from vidpara.cli import UserError
from vidpara.config import (
    AutoencoderConfig,
    DiffusionConfig,
    HeadConfig,
    ImageEncoderConfig,
    TrainPolicyConfig,
    TrainVideoConfig,
    UNetConfig,
    ViTConfig,
)
from vidpara.config.groups import SEEN
from vidpara.data.episode import Episode
from vidpara.data.latents import some_frames
from vidpara.models.adapt import adapt
from vidpara.models.autoencoder import Autoencoder, PatchPCA, Pixels, SVDAutoencoder
from vidpara.models.checkpointing import checkpoint_layers
from vidpara.models.compiled import compile_layers
from vidpara.models.cross_attention import use_single_token
from vidpara.models.dinov3 import MEAN, STD, ImageModel, patches, random_vit
from vidpara.models.layout import use_channels_last
from vidpara.models.lora import add_lora
from vidpara.models.pretrained import check_sizes, pretrained, subfolder
from vidpara.models.published import check_preprocessing, check_scheduler
from vidpara.models.svd import VideoModel, random_unet
from vidpara.policy import Head, ImagePolicy, Policy, VideoPolicy
from vidpara.types import Workspace

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


def build_reader(config: TrainPolicyConfig, episodes: Sequence[Episode] = ()) -> Autoencoder:
    """What a policy's backbone reads of a frame: latents for the video model, the pixels for an image model."""
    return Pixels() if config.policy.kind == "image" else build_autoencoder(config.autoencoder, episodes)


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
        for change in adapt(unet, 2 * latent_channels, frames):
            _say(f"{config.weights}: {change}")
    if config.lora:
        add_lora(unet, config.lora)
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


def build_head(config: HeadConfig, channels: int, steps: int, space: Workspace) -> Head:
    """The head axis.

    Raises:
        UserError: settings that the kind of head does not have.
    """
    if config.state_noise < 0:
        raise UserError(
            f"policy.head.state_noise {config.state_noise} is a standard deviation in metres; give 0 or more"
        )
    match config.kind:
        case "pixel":
            from vidpara.heads.pixel import PixelHead

            if config.state != "position" or config.state_noise:
                raise UserError(
                    "policy.head.state and policy.head.state_noise are the baselines', the pixel head has its start "
                    "keypoint; leave them out, or set --policy.head.kind global_regression or act"
                )
            return PixelHead(channels, steps, config, space)
        case "global_regression":
            from vidpara.heads.regression import RegressionHead

            return RegressionHead(channels, steps, config, space)
        case "act":
            from vidpara.heads.act import ACTHead

            return ACTHead(channels, steps, config, space)


def build_policy(
    config: TrainPolicyConfig, autoencoder: Autoencoder, space: Workspace, videos: bool = False
) -> Policy:
    """The backbone axis, and the head on it, from the weights that the configuration names.

    `videos` says that some of the training data have no actions.

    Raises:
        UserError: settings that contradict one another.
    """
    trains_video = config.policy.kind == "video" and config.policy.backbone == "train"
    if (config.data.unlabelled or videos) and not (trains_video and config.policy.action_fraction < 1):
        raise UserError(
            f"{'data.rollouts' if videos else 'data.unlabelled'} gives videos without actions, but this policy has no "
            "video loss; it takes --policy.kind video --policy.backbone train and --policy.action_fraction below 1"
        )
    of_kind = {"video": _video_policy, "image": _image_policy}
    policy = of_kind[config.policy.kind](config, autoencoder, space)
    policy.turns = config.loss.rotation > 0
    return policy


def _video_policy(config: TrainPolicyConfig, autoencoder: Autoencoder, space: Workspace) -> VideoPolicy:
    """The video model with its head.

    Raises:
        UserError: a tap that the UNet does not have, or settings of the noise that contradict one another.
    """
    _check_noise(config)
    frames = config.data.clip.frames
    model = build_video_model(config.unet, config.diffusion, autoencoder, frames)
    unet = model.unet
    blocks = len(unet.up_blocks)
    if not config.policy.taps or not all(0 <= tap < blocks for tap in config.policy.taps):
        raise UserError(f"policy.taps {config.policy.taps}: the UNet has decoder blocks 0 to {blocks - 1}")
    reversed_channels = unet.config.block_out_channels[::-1]
    channels = sum(reversed_channels[tap] for tap in config.policy.taps)
    return VideoPolicy(
        model,
        build_head(config.policy.head, channels, frames - 1, space),
        autoencoder,
        build_image_encoder(config.image_encoder, unet.config.cross_attention_dim),
        config.policy,
        space.image_size,
        frames,
    )


def _image_policy(config: TrainPolicyConfig, autoencoder: Autoencoder, space: Workspace) -> ImagePolicy:
    model = ImageModel(build_vit(config.vit), config.vit.levels, config.vit.absolute_positions)
    patches(space.image_size, model.vit.config.patch_size)
    head = build_head(config.policy.head, model.channels, config.data.clip.frames - 1, space)
    context = build_image_encoder(ImageEncoderConfig(), 1)
    return ImagePolicy(model, head, autoencoder, context, config.policy, space.image_size)


def _check_noise(config: TrainPolicyConfig) -> None:
    policy, top = config.policy, config.diffusion.sigma_max
    if policy.denoising_steps < 1:
        raise UserError(f"policy.denoising_steps {policy.denoising_steps} must be at least 1")
    if policy.future == "mean" and policy.sigma < top:
        raise UserError(
            f"policy.future mean stands for pure noise, policy.sigma {policy.sigma} is below "
            f"diffusion.sigma_max {top}; set --policy.future noise"
        )
    if policy.denoising_steps > 1 and policy.sigma >= top:
        raise UserError(
            f"denoising_steps {policy.denoising_steps} denoises from diffusion.sigma_max {top} to policy.sigma, which "
            f"is {policy.sigma}: take one step, or train with a lower --policy.sigma, where an imagined clip is read"
        )


def from_video_run(config: TrainPolicyConfig) -> TrainPolicyConfig:
    """The configuration whose initial weights are those of its stage-one run, if it names one.

    Raises:
        UserError: the stage-one run is not finished, or what its UNet saw differs from what stage two shows it.
    """
    run = config.video_run
    if run is None:
        return config
    if not (run / "unet").is_dir():
        raise UserError(f"{run} is not a finished stage-one run; train it with stages/train_video.py")
    first = cli.load(TrainVideoConfig, [str(run / "config.yaml")])
    ours, theirs = (cli.flatten(asdict(each)) for each in (config, first))
    for name in SEEN:
        if ours[name] != theirs[name]:
            raise UserError(
                f"{name} is {ours[name]}, but {run} was trained with {theirs[name]}; make them equal"
            )
    saved = AutoencoderConfig(config.autoencoder.kind, str(run / "autoencoder"))
    return replace(config, unet=replace(config.unet, weights=str(run)), autoencoder=saved)


def _say(line: str) -> None:
    """Tell the user something, once in a distributed launch."""
    if os.environ.get("RANK", "0") == "0":
        print(line, file=sys.stderr)
