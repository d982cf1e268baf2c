"""Configuration -> policy: what the backbone reads, the backbone, and the head on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace

from vidpara import cli
from vidpara.build import build_autoencoder, build_image_encoder, build_video_model, build_vit, say
from vidpara.cli import UserError
from vidpara.config import (
    AutoencoderConfig,
    HeadConfig,
    ImageEncoderConfig,
    TrainPolicyConfig,
    TrainVideoConfig,
)
from vidpara.config.groups import SEEN
from vidpara.data.episode import Episode
from vidpara.models.autoencoder import Autoencoder, Pixels
from vidpara.models.dinov3 import ImageModel, patches
from vidpara.policy import Head, ImagePolicy, Policy, VideoPolicy
from vidpara.types import Workspace


def build_reader(config: TrainPolicyConfig, episodes: Sequence[Episode] = ()) -> Autoencoder:
    """What a policy's backbone reads of a frame: latents for the video model, the pixels for an image model."""
    return Pixels() if config.policy.kind == "image" else build_autoencoder(config.autoencoder, episodes)


def build_head(config: HeadConfig, channels: int, steps: int, space: Workspace) -> Head:
    """The head axis.

    Raises:
        UserError: settings that the kind of head does not have.
    """
    if config.state_noise < 0:
        raise UserError(
            f"policy.head.state_noise {config.state_noise} is a standard deviation in metres; give 0 or more"
        )
    if config.coordinates == "image" and config.kind != "global_regression":
        raise UserError(
            "policy.head.coordinates image is global regression's: the pixel head answers in pixels anyway, ACT in the "
            "workspace box; leave it out, or set --policy.head.kind global_regression"
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

            if config.targets == "hard":
                raise UserError(
                    "policy.head.targets hard is for heads with bins, ACT regresses; leave it out, or choose another "
                    "--policy.head.kind"
                )
            return ACTHead(channels, steps, config, space)


def as_told(config: TrainPolicyConfig, head: Head) -> TrainPolicyConfig:
    """The configuration without shifted images for a head that answers in the world and is not told the camera: a shift
    moves the camera, so that the same picture would have many answers.
    """
    if not config.data.shift or head.told_camera:
        return config
    say(
        f"note: data.shift {config.data.shift} is left out: it moves the camera, which policy.head.kind "
        f"{config.policy.head.kind} is not told"
    )
    return replace(config, data=replace(config.data, shift=0))


def build_policy(
    config: TrainPolicyConfig, autoencoder: Autoencoder, space: Workspace, episodes: Sequence[Episode] = ()
) -> Policy:
    """The backbone axis, and the head on it, from the weights that the configuration names, for these episodes.

    Raises:
        UserError: settings that contradict one another, or that ask for what the episodes do not have.
    """
    policy = config.policy
    videos = not all(episode.labelled for episode in episodes)
    if config.loss.rotation > 0 and episodes and not any(episode.has_rotation for episode in episodes):
        raise UserError(
            f"loss.rotation {config.loss.rotation:g}, but no episode has a rotation of the hand (--data.lerobot."
            "rotation names its column); leave it at 0"
        )
    if (config.data.unlabelled or videos) and not policy.trains_video:
        raise UserError(
            f"{'data.rollouts' if videos else 'data.unlabelled'} gives videos without actions, but this policy has no "
            "video loss; it takes --policy.kind video --policy.backbone train and --policy.action_fraction below 1"
        )
    if policy.stop_gradient and policy.backbone == "train" and not policy.trains_video:
        raise UserError(
            "policy.stop_gradient leaves the backbone nothing to learn from, since this policy has no video loss; take "
            "--policy.backbone frozen, or a video policy with --policy.action_fraction below 1"
        )
    if config.unet.lora and policy.backbone == "frozen":
        raise UserError(
            f"unet.lora {config.unet.lora} on a frozen backbone: adapters that learn nothing; leave out one of the two"
        )
    of_kind = {"video": _video_policy, "image": _image_policy}
    built = of_kind[policy.kind](config, autoencoder, space)
    built.turns = config.loss.rotation > 0
    return built


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
    taps = config.policy.taps
    if not taps or not all(0 <= tap < blocks for tap in taps) or len(set(taps)) < len(taps):
        raise UserError(
            f"policy.taps {taps}: the UNet has decoder blocks 0 to {blocks - 1}; name one or more of them, each once"
        )
    reversed_channels = unet.config.block_out_channels[::-1]
    channels = sum(reversed_channels[tap] for tap in taps)
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
        UserError: the stage-one run is not finished, what its UNet saw differs from what stage two shows it, or the
            policy has no UNet.
    """
    run = config.video_run
    if run is None:
        return config
    if config.policy.kind != "video":
        raise UserError(
            f"video_run {run} is a video model, and policy.kind {config.policy.kind} has none: leave --video_run out"
        )
    if not (run / "autoencoder").is_dir():
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
