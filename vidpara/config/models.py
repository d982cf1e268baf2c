"""The video model, and the policy on it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class AutoencoderConfig:
    """Clip <-> latents."""

    kind: Literal["patch_pca", "svd"] = "patch_pca"
    weights: str | None = None
    """A saved autoencoder (folder or hub id). `patch_pca` is fitted on the rollouts when there is none."""
    patch: int = 8
    channels: int = 16


@dataclass(frozen=True)
class ImageEncoderConfig:
    """The cross-attention token: CLIP's embedding of the present frame, or SVD's unconditional zero token."""

    kind: Literal["zeros", "clip"] = "zeros"
    weights: str | None = None


@dataclass(frozen=True)
class UNetConfig:
    """UNetSpatioTemporalConditionModel; the defaults are small, configs/pocket.yaml is smaller."""

    weights: str | None = None
    """A diffusers UNet folder, a whole pipeline folder, or a hub id; None starts from random weights."""
    channels: tuple[int, ...] = (32, 64, 128)
    layers_per_block: int = 1
    attention: tuple[bool, ...] = (False, True, True)
    """Whether each resolution has transformer blocks, highest resolution first."""
    heads: int = 4
    context_dim: int = 64
    added_id_dim: int = 32
    single_token: bool = True
    """Use that the context is one token: cross-attention is then a linear map of it, exactly. What has no effect there
    (queries, keys) is frozen."""
    lora: int = 0
    """Rank of adapters that learn in the UNet's place (peft); 0 trains its own weights."""
    checkpointing: Literal["none", "finest", "layers"] = "none"
    """Whose insides the backward pass computes again, keeping their inputs alone. `layers`: all, a twentieth of the
    memory for a third more compute. `finest`: those of the finest grid, half of the memory for a tenth more."""
    channels_last: bool = False
    """Lay convolutions' weights out with the channels last, for tensor cores; on a CPU it gains nothing."""
    compile: bool = False
    """Compile every layer (torch.compile), which takes some minutes at the start."""


@dataclass(frozen=True)
class DiffusionConfig:
    """EDM with v-prediction, as in SVD (Karras et al. 2022; Blattmann et al. 2023)."""

    log_sigma_mean: float = 0.7
    log_sigma_std: float = 1.6
    sigma_max: float = 700.0
    blank: float = 0.0
    """Share of stage one's clips (of an update, over all processes) at `sigma_max` with the noise at its mean: what a
    policy with `future: mean` reads."""
    condition_noise_mean: float = -3.0
    condition_noise_std: float = 0.5
    """Log-normal noise added to the conditioning frame's latents (SVD: to the image, before it is encoded)."""
    fps: int = 7
    motion_bucket: int = 127


@dataclass(frozen=True)
class ViTConfig:
    """DINOv3ViTModel; the defaults are small, configs/pocket_image.yaml is the pocket size."""

    weights: str | None = None
    """A DINOv3 folder or hub id (facebook/dinov3-vits16-pretrain-lvd1689m); None starts from random weights."""
    patch: int = 8
    width: int = 96
    layers: int = 6
    heads: int = 4
    registers: int = 4
    levels: tuple[int, ...] = (-1,)
    """Blocks whose patch features are read, joined channel by channel; -1 is the last."""
    absolute_positions: bool = False
    """Add sinusoidal 2-D positions to the patch embeddings, before the blocks. Rotary positions turn queries and keys
    only, so that what the class token takes from a patch does not say where it is. For random weights: pretrained ones
    have not seen them."""


@dataclass(frozen=True)
class ACTConfig:
    """Action chunking with transformers; the defaults are the published ones (Zhao et al. 2023, table III)."""

    width: int = 512
    feedforward: int = 3200
    heads: int = 8
    style_layers: int = 4
    """Of the CVAE's encoder, which is used in training only."""
    encoder_layers: int = 4
    decoder_layers: int = 7
    latent: int = 32
    dropout: float = 0.1


@dataclass(frozen=True)
class HeadConfig:
    """Pixel-aligned actions, or a baseline, on a backbone's features."""

    kind: Literal["pixel", "global_regression", "act"] = "pixel"
    grid: tuple[int, int] = (32, 32)
    """Rows and columns of the heatmap."""
    height_bins: int = 32
    gripper_bins: int = 32
    rotation_bins: int = 32
    width: int = 32
    """Channels of the head's convolutions and MLPs."""
    layers: int = 2
    """3 x 3 convolutions between the features and the volume."""
    targets: Literal["soft", "hard"] = "soft"
    decode: Literal["local_mean", "argmax"] = "local_mean"
    """The best cell and the best angles, or the mean over their neighbours, which lies between bins."""
    state: Literal["position", "opening"] = "position"
    """What the baselines' heads are told of the hand: its position and opening, or its opening alone, so that where to
    go has to be seen. The pixel head always has the position, in its start keypoint."""
    state_noise: float = 0.0
    """Standard deviation (metres, each axis) of noise on the position that the baselines' heads are told, in training
    only: a position that is not exact is not worth copying."""
    coordinates: Literal["world", "image"] = "world"
    """What global regression answers in: the workspace box, or what the pixel head answers in, a pixel and a height,
    which the camera lifts to a point."""
    act: ACTConfig = field(default_factory=ACTConfig)


@dataclass(frozen=True)
class PolicyConfig:
    """Backbone x head: which features, at which noise, and how the losses are mixed."""

    kind: Literal["video", "image"] = "video"
    """The backbone: the video model's decoder, or a ViT on the present frame alone."""
    taps: tuple[int, ...] = (1, 2)
    """Decoder blocks (`unet.up_blocks[i]`) whose outputs are the features."""
    sigma: float = 700.0
    """Noise level of the future frames for the action losses, and of the forward that is read at run time."""
    future: Literal["noise", "mean"] = "noise"
    """What stands in the future frames at `sigma`: a sample of pure noise, or its mean, which is zero. The network
    learns to ignore the sample at that level; with the mean there is nothing to ignore."""
    denoising_steps: int = 1
    """Forwards at run time. 1 starts at `sigma` and imagines nothing; more denoise from `sigma_max` to `sigma`."""
    action_fraction: float = 0.75
    """Share of an update's clips at `sigma` with action losses; the rest is at log-normal noise. The video loss is the
    mean over both, except at 1, where there is none. Below 1 an update has at least one clip of each kind, over all
    processes and micro-steps."""
    blank: float = 0.0
    """Share of the video clips, drawn anew for each, that are at `sigma` like the action clips, so that video without
    actions teaches what the head reads; `diffusion.blank` is stage one's."""
    backbone: Literal["train", "frozen"] = "train"
    stop_gradient: bool = False
    """Do not let action losses reach the backbone."""
    head: HeadConfig = field(default_factory=HeadConfig)

    @property
    def trains_video(self) -> bool:
        """Whether the video loss is part of the training."""
        return self.kind == "video" and self.backbone == "train" and self.action_fraction < 1
