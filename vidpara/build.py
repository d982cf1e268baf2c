"""Configuration -> objects: one `match` per axis. Also writes and reads run folders.

A finished run folder holds config.yaml, unet/ (diffusers), autoencoder/ and, after stage two, head.safetensors and
workspace.json; the UNet loads in diffusers by itself.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from diffusers import AutoencoderKLTemporalDecoder, UNetSpatioTemporalConditionModel
from safetensors.torch import load_file, save_file
from torch import nn
from torch.utils.data import Subset

from vidpara import cli
from vidpara.cli import UserError
from vidpara.config import (
    AutoencoderConfig,
    DataConfig,
    HeadConfig,
    ImageEncoderConfig,
    TrainPolicyConfig,
    TrainVideoConfig,
    UNetConfig,
)
from vidpara.data.clips import Clips, split
from vidpara.data.latents import cache_frames, to_float
from vidpara.data.rollouts import Episode, read_episodes
from vidpara.models.autoencoder import Autoencoder, PatchPCA, SVDAutoencoder
from vidpara.models.svd import VideoModel, random_unet
from vidpara.policy import Head, VideoPolicy
from vidpara.types import Batch, Workspace

PCA_FRAMES = 1024


# ------------------------------------------------------------------------------------------------------------- data
def build_episodes(config: DataConfig) -> list[Episode]:
    """Episodes of all rollout files, in order."""
    return [episode for path in config.rollouts for episode in read_episodes(path, config.camera)]


def build_clips(
    config: DataConfig, episodes: list[Episode], autoencoder: Autoencoder, image_encoder: nn.Module
) -> tuple[Clips, Subset[Batch]]:
    """Training clips and evenly spaced validation clips, their latents encoded once and cached."""
    training, held_out = split(episodes, config)
    folder = config.cache or config.rollouts[0].parent / "latents"
    cached = {}
    for path in config.rollouts:
        of_file = [episode for episode in episodes if episode.file == path]
        cached[path] = cache_frames(
            of_file, autoencoder.encode, image_encoder, [autoencoder, image_encoder], folder
        )
    validation = Clips(
        held_out, [cached[episode.file] for episode in held_out], config.clip, until=config.until
    )
    step = max(1, len(validation) // config.validation_clips)
    return (
        Clips(
            training, [cached[episode.file] for episode in training], config.clip, config.shift, config.until
        ),
        Subset(validation, range(0, len(validation), step)),
    )


# ----------------------------------------------------------------------------------------------------------- models
def build_autoencoder(config: AutoencoderConfig, episodes: Sequence[Episode] = ()) -> Autoencoder:
    """The autoencoder axis; `patch_pca` without weights is fitted on frames of `episodes`."""
    match config.kind:
        case "patch_pca":
            return PatchPCA.load(Path(config.weights)) if config.weights else _fit_pca(config, episodes)
        case "svd":
            if config.weights is None:
                raise UserError(
                    "autoencoder.kind svd needs --autoencoder.weights (a diffusers VAE or pipeline folder)"
                )
            sub = _subfolder(config.weights, "vae")
            return SVDAutoencoder(_pretrained(AutoencoderKLTemporalDecoder, config.weights, sub))


def build_image_encoder(config: ImageEncoderConfig, dim: int) -> nn.Module:
    """The cross-attention context axis; `dim` is the UNet's context width."""
    from vidpara.models.image_encoder import CLIPContext, ZeroContext

    match config.kind:
        case "zeros":
            return ZeroContext(dim)
        case "clip":
            from transformers import CLIPVisionModelWithProjection

            if config.weights is None:
                raise UserError(
                    "image_encoder.kind clip needs --image_encoder.weights (a CLIP or pipeline folder)"
                )
            sub = _subfolder(config.weights, "image_encoder")
            return CLIPContext(_pretrained(CLIPVisionModelWithProjection, config.weights, sub))


def build_unet(config: UNetConfig, latent_channels: int, frames: int) -> UNetSpatioTemporalConditionModel:
    """The UNet from a folder or hub id, or from random weights.

    Raises:
        UserError: loaded weights take other channels than the autoencoder gives.
    """
    if config.weights is None:
        return random_unet(config, latent_channels, frames)
    unet = _pretrained(UNetSpatioTemporalConditionModel, config.weights, _subfolder(config.weights, "unet"))
    if unet.config.out_channels != latent_channels:
        raise UserError(
            f"{config.weights} denoises {unet.config.out_channels} latent channels, the autoencoder gives "
            f"{latent_channels}; choose the autoencoder the UNet was trained with (--autoencoder.kind and .weights)"
        )
    return unet


def build_head(config: HeadConfig, channels: int, steps: int, space: Workspace) -> Head:
    """The head axis."""
    match config.kind:
        case "pixel":
            from vidpara.heads.pixel import PixelHead

            return PixelHead(channels, steps, config, space)
        case "global_regression":
            from vidpara.heads.regression import RegressionHead

            return RegressionHead(channels, steps, config, space)


def build_policy(
    config: TrainPolicyConfig,
    unet: UNetSpatioTemporalConditionModel,
    autoencoder: Autoencoder,
    space: Workspace,
) -> VideoPolicy:
    """The whole policy around a given UNet.

    Raises:
        UserError: a tap that the UNet does not have, or settings of the noise that contradict one another.
    """
    _check_noise(config)
    blocks = len(unet.up_blocks)
    if not config.policy.taps or not all(0 <= tap < blocks for tap in config.policy.taps):
        raise UserError(f"policy.taps {config.policy.taps}: the UNet has decoder blocks 0 to {blocks - 1}")
    reversed_channels = unet.config.block_out_channels[::-1]
    channels = sum(reversed_channels[tap] for tap in config.policy.taps)
    frames = config.data.clip.frames
    return VideoPolicy(
        VideoModel(unet, config.diffusion, autoencoder.condition_scale),
        build_head(config.policy.head, channels, frames - 1, space),
        autoencoder,
        build_image_encoder(config.image_encoder, unet.config.cross_attention_dim),
        config.policy,
        frames,
    )


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
            f"policy.denoising_steps {policy.denoising_steps} denoises from diffusion.sigma_max {top} to policy.sigma "
            f"{policy.sigma}; set --policy.sigma lower, where the head reads an imagined clip"
        )


# ------------------------------------------------------------------------------------------------------ run folders
def save_video(run: Path, model: VideoModel, autoencoder: Autoencoder) -> None:
    """Stage one's result: a UNet that diffusers loads, and the autoencoder its latents belong to."""
    model.unet.save_pretrained(run / "unet")
    autoencoder.save(run / "autoencoder")


def save_policy(run: Path, policy: VideoPolicy, space: Workspace) -> None:
    """Stage two's result: the video model, the head and what the head knows of the data."""
    save_video(run, policy.backbone, policy.autoencoder)
    save_file({k: v.contiguous() for k, v in policy.head.state_dict().items()}, run / "head.safetensors")
    (run / "workspace.json").write_text(json.dumps(space._asdict()))


def load_policy(run: Path, denoising_steps: int = 0) -> VideoPolicy:
    """A finished stage-two run, ready to act, with its own or another number of `denoising_steps`.

    Raises:
        UserError: the folder is not a finished run, or its weights belong to another configuration.
    """
    if missing := [
        n for n in ("config.yaml", "unet", "head.safetensors", "workspace.json") if not (run / n).exists()
    ]:
        raise UserError(
            f"{run} is not a finished policy run ({missing[0]} is missing); train it with stages/train_policy.py"
        )
    config = read_config(run)
    if denoising_steps:
        config = replace(config, policy=replace(config.policy, denoising_steps=denoising_steps))
    space = read_workspace(run)
    unet = _pretrained(UNetSpatioTemporalConditionModel, str(run), "unet")
    weights = str(run / "autoencoder")
    autoencoder = build_autoencoder(AutoencoderConfig(config.autoencoder.kind, weights))
    policy = build_policy(config, unet, autoencoder, space)
    try:
        policy.head.load_state_dict(load_file(run / "head.safetensors"))
    except RuntimeError as error:
        raise UserError(
            f"{run}/head.safetensors does not fit {run}/config.yaml: {' '.join(str(error).split())}"
        ) from error
    return policy.eval()


def read_config(run: Path) -> TrainPolicyConfig:
    """The configuration that a stage-two run was trained with."""
    return cli.load(TrainPolicyConfig, [str(run / "config.yaml")])


def read_workspace(run: Path) -> Workspace:
    """What the head of a finished run knows of the data."""
    stored = json.loads((run / "workspace.json").read_text())
    return Workspace(*(tuple(map(tuple, v)) if k == "home" else tuple(v) for k, v in stored.items()))


def from_video_run(config: TrainPolicyConfig) -> tuple[UNetConfig, AutoencoderConfig]:
    """Where stage two's initial weights are: a stage-one run's UNet and autoencoder, or what the config names.

    Raises:
        UserError: the stage-one run is not finished, or its clips or autoencoder differ from stage two's.
    """
    if config.video_run is None:
        return config.unet, config.autoencoder
    if not (config.video_run / "unet").is_dir():
        raise UserError(
            f"{config.video_run} is not a finished stage-one run; train it with stages/train_video.py"
        )
    first = cli.load(TrainVideoConfig, [str(config.video_run / "config.yaml")])
    for name, ours, theirs in (
        ("data.clip", config.data.clip, first.data.clip),
        ("autoencoder.kind", config.autoencoder.kind, first.autoencoder.kind),
    ):
        if ours != theirs:
            raise UserError(
                f"{name} is {ours}, but {config.video_run} was trained with {theirs}; make them equal"
            )
    folder = str(config.video_run / "autoencoder")
    return UNetConfig(weights=str(config.video_run)), AutoencoderConfig(config.autoencoder.kind, folder)


def _fit_pca(config: AutoencoderConfig, episodes: Sequence[Episode]) -> PatchPCA:
    assert episodes, "patch_pca is fitted on episodes"
    each = max(1, PCA_FRAMES // len(episodes))
    generator = torch.Generator().manual_seed(0)
    frames = []
    for episode in episodes[:: max(1, len(episodes) // PCA_FRAMES)]:
        images = episode.images()
        frames.append(to_float(images[torch.randperm(len(images), generator=generator)[:each].numpy()]))
    return PatchPCA.fit(torch.cat(frames), config)


def _subfolder(weights: str, name: str) -> str | None:
    """A pipeline folder or hub id holds the model in a subfolder; a model folder holds it directly."""
    return name if not (Path(weights) / "config.json").is_file() else None


def _pretrained(kind, weights: str, subfolder: str | None):
    try:
        return kind.from_pretrained(weights, **({"subfolder": subfolder} if subfolder else {})).float()
    except (OSError, ValueError) as error:
        raise UserError(
            f"cannot load {kind.__name__} from {weights}: {' '.join(str(error).split())[:300]}"
        ) from error
