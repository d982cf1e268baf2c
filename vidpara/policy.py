"""A policy is a backbone times a head: `losses = policy(batch)` to train, `policy.act(observation)` to run."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn

from vidpara.cli import UserError
from vidpara.config import PolicyConfig
from vidpara.geometry.camera import resize_camera, resize_images
from vidpara.heads.act import ACTHead
from vidpara.heads.pixel import PixelHead
from vidpara.heads.regression import RegressionHead
from vidpara.models.autoencoder import Autoencoder
from vidpara.models.checkpointing import layers
from vidpara.models.cuda_graph import Replayed
from vidpara.models.diffusion import denoising_loss, noise_levels, sample_sigma
from vidpara.models.dinov3 import ImageModel
from vidpara.models.svd import VideoModel, of_both
from vidpara.types import ActionChunk, Batch, Camera, Features, Float, Observation, Part, RobotState, Tensor

Head = PixelHead | RegressionHead | ACTHead
NOISE_SEED = 0
"""Run time always starts from the same noise, so that the same observation gives the same action."""


class Policy(nn.Module):
    """What all policies share: an observation becomes features, and the head makes a chunk of actions of them."""

    sees_clips = False
    """Whether training shows it the frames to come, too, and not the present one alone."""

    def __init__(
        self,
        backbone: VideoModel | ImageModel,
        head: Head,
        autoencoder: Autoencoder,
        image_encoder: nn.Module,
        config: PolicyConfig,
        image_size: tuple[int, int],
    ) -> None:
        super().__init__()
        self.backbone, self.head, self.config, self.image_size = backbone, head, config, image_size
        self.autoencoder, self.image_encoder = autoencoder, image_encoder
        self.autoencoder.requires_grad_(False)
        self.image_encoder.requires_grad_(False)
        if config.backbone == "frozen":
            self.backbone.requires_grad_(False)
        self.read: Callable[..., Features] = self._read
        self.bf16 = False
        self.turns = True
        """Whether rotations were learnt; otherwise actions keep the home rotation."""

    def acting(self, count: int) -> int:
        """How many of a whole batch of `count` clips, the first ones, train the head: all of them.

        The whole batch is that of all processes and micro-steps of an update.
        """
        return count

    @torch.no_grad()
    def act(self, observation: Observation) -> ActionChunk:
        """World-frame action chunk for a batch of observations, whose images may have another size than in training.

        Observations may lie on another device; the chunk lies on the policy's.
        """
        observation = observation.to(self.head.home.device)
        before = (observation.image.shape[-3], observation.image.shape[-2])
        camera = resize_camera(observation.camera, before, self.image_size)
        frames = resize_images(observation.image, self.image_size).movedim(-1, -3).float() / 127.5 - 1
        with self.autocast(frames.device):
            latents, context = self.autoencoder.encode(frames), self.image_encoder(frames)
        return self.act_on_latents(latents, context, observation.state, camera)

    def halve(self) -> None:
        """Look in bf16 from now on: the backbone's weights are rounded, all but geometry is autocast."""
        self.backbone.bfloat16()
        self.bf16 = True

    @torch.no_grad()
    def act_on_latents(
        self,
        present: Float[Tensor, "b c h w"],
        context: Float[Tensor, "b n d"],
        robot: RobotState,
        camera: Camera,
    ) -> ActionChunk:
        """`act` from the present frame's latents."""
        with self.autocast(present.device):
            chunk = self.head.act(self.features(present, context), robot, camera)
        return chunk if self.turns else chunk._replace(rotation=self.head.home.expand_as(chunk.rotation))

    def autocast(self, device: torch.device) -> AbstractContextManager:
        """In bf16 what need not be exact, after `halve`."""
        return torch.autocast(device.type, torch.bfloat16, enabled=self.bf16, cache_enabled=False)

    def features(self, present: Float[Tensor, "b c h w"], context: Float[Tensor, "b n d"]) -> Features:
        """What the head reads at run time."""
        raise NotImplementedError

    def _read(self, *inputs: Tensor) -> Features:
        """The forward that the head reads, of tensors on the device alone."""
        raise NotImplementedError

    def replay(self) -> None:
        """Record `_read` as a CUDA graph at the next look, and replay it from then on.

        Raises:
            UserError: there is no CUDA device.
        """
        self.read = Replayed(self._read)

    def units(self) -> list[nn.Module]:
        """What FSDP gathers by itself: each layer of the backbone, and the encoders, which training does not run."""
        return [*layers(self.backbone), self.autoencoder, self.image_encoder]

    def training_features(self, features: Features) -> Features:
        """What the head reads in training: without a way back to the backbone where that is asked for."""
        return Features(*(x.detach() for x in features)) if self.config.stop_gradient else features

    def frozen(self) -> AbstractContextManager:
        """Around the backbone's forward in training."""
        return torch.no_grad() if self.config.backbone == "frozen" else nullcontext()


class ImagePolicy(Policy):
    """A ViT's features of the present frame, read by an action head."""

    backbone: ImageModel

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The head's losses."""
        with self.frozen():
            features = self.backbone(batch.latents[:, 0])
        return self.head.losses(self.training_features(features), batch.state, batch.camera, batch.actions)

    def features(self, present: Float[Tensor, "b c h w"], context: Float[Tensor, "b n d"]) -> Features:
        return self.read(present)

    def _read(self, present: Float[Tensor, "b c h w"]) -> Features:
        return self.backbone(present)


class VideoPolicy(Policy):
    """The video model's decoder features at one noise level, read by an action head, both trained together."""

    sees_clips = True
    backbone: VideoModel

    def __init__(
        self,
        backbone: VideoModel,
        head: Head,
        autoencoder: Autoencoder,
        image_encoder: nn.Module,
        config: PolicyConfig,
        image_size: tuple[int, int],
        frames: int,
    ) -> None:
        super().__init__(backbone, head, autoencoder, image_encoder, config, image_size)
        self.frames = frames
        if config.backbone == "train" and not self.config.trains_video:
            self._freeze_above_last_tap()

    def acting(self, count: int) -> int:
        """How many of a whole batch of `count` clips, the first ones, train the head; the others the video model alone.

        Raises:
            UserError: it is too small for one of each.
        """
        if not self.config.trains_video:
            return count
        if count < 2:
            raise UserError(
                f"an update has {count} clip, policy.action_fraction {self.config.action_fraction} needs one for the "
                "actions and one for the video: set --trainer.accumulate 2 (or --trainer.batch_size, or more "
                "processes), or --policy.action_fraction 1"
            )
        return of_both(count, self.config.action_fraction)

    def _freeze_above_last_tap(self) -> None:
        """What never runs gets no gradient; freezing it says so to DDP and the optimizer."""
        unet = self.backbone.unet
        above = [*unet.up_blocks[max(self.config.taps) + 1 :], unet.conv_norm_out, unet.conv_out]
        for module in above:
            module.requires_grad_(False)

    def forward(self, batch: Batch, part: Part | None = None) -> dict[str, Tensor]:
        """Named losses from one forward of the UNet.

        The clips that train the head (`part`, or `acting` of the batch) have their future at pure noise (`sigma`), as
        at run time, and so has the share `blank` of the others; the rest have log-normal noise. The video loss is that
        of all clips, each from its own noise. Of a part the losses of
        the head count by its number of clips, so that their mean over processes and micro-steps is that of all clips,
        if every clip has as many labels.
        """
        count = len(batch.latents)
        acting = part.count if part else self.acting(count) if count > 1 else 1
        device = batch.latents.device
        as_read = torch.arange(count, device=device) < acting
        if self.config.blank:
            as_read |= torch.rand(count, device=device) < self.config.blank
        sigma = torch.full((count,), self.config.sigma, device=device)
        augmentation = torch.zeros_like(sigma)
        if acting < count:
            sigma[acting:] = sample_sigma(count - acting, self.backbone.diffusion, device)
            augmentation[acting:] = self.backbone.condition_noise(batch.latents[acting:])
            sigma.masked_fill_(as_read, self.config.sigma)
            augmentation.masked_fill_(as_read, 0.0)
        noisy = self.backbone.add_noise(batch.latents, sigma)
        if self.config.future == "mean":
            noisy = noisy.masked_fill(as_read.view(-1, 1, 1, 1, 1), 0.0)
        with self.frozen():
            prediction, features = self.backbone.predict(
                noisy,
                sigma,
                batch.latents[:, 0],
                batch.context,
                augmentation,
                self.config.taps,
                self.config.trains_video,
            )
        assert features is not None
        seen = (self.training_features(features), batch.state, batch.camera, batch.actions)
        losses = self.head.losses(*first(max(1, acting), seen))  # of none: all processes have all losses
        if part:
            losses = {name: loss * (acting / part.mean) for name, loss in losses.items()}
        if self.config.trains_video:
            losses["video"] = denoising_loss(prediction, noisy, batch.latents, sigma).mean()
        return losses

    def features(self, present: Float[Tensor, "b c h w"], context: Float[Tensor, "b n d"]) -> Features:
        """Decoder features at run time, read at noise level `sigma`, where the head was trained.

        With one forward the future is pure noise of that level. With more, the future starts at `sigma_max` and is
        denoised to `sigma` by Euler steps first: the head reads an imagined clip.
        """
        config, diffusion = self.config, self.backbone.diffusion
        generator = torch.Generator().manual_seed(NOISE_SEED)
        noise = torch.randn((1, self.frames, *present.shape[1:]), generator=generator).to(present)
        if config.future == "mean":
            noise.zero_()
        still = torch.zeros(len(present), device=present.device)
        levels = noise_levels(diffusion.sigma_max, config.sigma, config.denoising_steps).to(present)
        clip = noise.expand(len(present), -1, -1, -1, -1) * levels[0]
        clip = self.backbone.denoise(clip, levels, present, context)
        return self.read(clip, levels[-1].expand(len(present)), present, context, still)

    def _read(self, clip: Tensor, level: Tensor, present: Tensor, context: Tensor, still: Tensor) -> Features:
        _, features = self.backbone.predict(
            clip, level, present, context, still, self.config.taps, output=False
        )
        assert features is not None
        return features


def first(count: int, values):
    """The first `count` samples of every tensor in (nested) tuples."""
    if isinstance(values, Tensor):
        return values[:count]
    parts = [first(count, value) for value in values]
    return type(values)(*parts) if hasattr(values, "_fields") else tuple(parts)
