"""The video model: diffusers' SVD UNet, its conditioning, its denoising loss, and its decoder features.

The present frame conditions the clip as in SVD: its latents are concatenated to every noisy frame's channels. One thing
differs. SVD adds the conditioning frame's noise to the image (values in [-1, 1]), and its autoencoder encodes the sum;
we add it to the latents (unit variance), because they are encoded once and cached. So the same strength is not the same
disturbance: ours is alike and independent in every value of the latents, SVD's is what the encoder makes of noisy
pixels. docs/full_size.md says what follows.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import torch
import torch.nn.functional as F
from diffusers import UNetSpatioTemporalConditionModel
from torch import nn

from vidpara.cli import UserError
from vidpara.config import DiffusionConfig, UNetConfig
from vidpara.models.diffusion import denoising_loss, precondition, sample_sigma, scheduler
from vidpara.types import Batch, Features, Float, Part, Tensor


class LastTapReached(Exception):  # noqa: N818 - not an error
    """Leaves the UNet's forward once nothing that follows is needed."""


def of_both(count: int, share: float) -> int:
    """How many of `count` clips are of the first of two kinds: about this share, and at least one of each kind."""
    return min(max(1, round(count * share)), count - 1)


class VideoModel(nn.Module):
    """SVD's UNet with EDM preconditioning. `losses = model(batch)` is stage one."""

    def __init__(
        self, unet: UNetSpatioTemporalConditionModel, diffusion: DiffusionConfig, condition_scale: float = 1.0
    ) -> None:
        super().__init__()
        self.unet = unet
        self.diffusion = diffusion
        self.condition_scale = condition_scale

    def blank(self, count: int) -> int:
        """How many of a whole batch of `count` clips, the first ones, start from nothing: with a share of both kinds at
        least one of each.

        Raises:
            UserError: it is too small for that.
        """
        if count < 2 and 0 < self.diffusion.blank < 1:
            raise UserError(
                f"an update has {count} clip, diffusion.blank {self.diffusion.blank} needs one that starts from "
                "nothing and one that does not: set --trainer.accumulate 2 (or --trainer.batch_size, or more "
                "processes), or --diffusion.blank 0"
            )
        return self._blank(count)

    def _blank(self, count: int) -> int:
        share = self.diffusion.blank
        return of_both(count, share) if 0 < share < 1 else round(count * share)

    def forward(self, batch: Batch, part: Part | None = None) -> dict[str, Tensor]:
        """Denoising loss at log-normal noise levels, with SVD's noise on the conditioning frame.

        The first clips (`part`, or `blank` of the batch) start from nothing: the highest noise level, with the noise at
        its mean.
        """
        count = len(batch.latents)
        blank = part.count if part else self._blank(count)
        sigma = sample_sigma(len(batch.latents), self.diffusion, batch.latents.device)
        sigma[:blank] = self.diffusion.sigma_max
        noisy, augmentation = self.add_noise(batch.latents, sigma), self.condition_noise(batch.latents)
        noisy[:blank], augmentation[:blank] = 0.0, 0.0
        prediction, _ = self.predict(noisy, sigma, batch.latents[:, 0], batch.context, augmentation)
        return {"video": denoising_loss(prediction, noisy, batch.latents, sigma).mean()}

    def add_noise(
        self, latents: Float[Tensor, "b t c h w"], sigma: Float[Tensor, "b"]
    ) -> Float[Tensor, "b t c h w"]:
        return latents + sigma.view(-1, 1, 1, 1, 1) * torch.randn_like(latents)

    def condition_noise(self, latents: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b"]:
        """Log-normal strengths of the noise on the conditioning frame, which the UNet is told as an added id.

        The distribution is SVD's; there it is of noise on the image, here on its latents.
        """
        noise = torch.randn(len(latents), device=latents.device)
        return torch.exp(self.diffusion.condition_noise_mean + self.diffusion.condition_noise_std * noise)

    def predict(
        self,
        noisy: Float[Tensor, "b t c h w"],
        sigma: Float[Tensor, "b"],
        present: Float[Tensor, "b c h w"],
        context: Float[Tensor, "b n d"],
        augmentation: Float[Tensor, "b"],
        taps: tuple[int, ...] = (),
        output: bool = True,
    ) -> tuple[Tensor, Features | None]:
        """One forward of the UNet: its raw prediction F and the features of the tapped decoder blocks.

        `augmentation` is the standard deviation of the noise added to `present`, before both are scaled for the UNet
        (`condition_scale`). With `output` off nothing after the last tap runs, and the prediction is empty.
        """
        condition = present + augmentation.view(-1, 1, 1, 1) * torch.randn_like(present)
        condition = (condition * self.condition_scale)[:, None].expand_as(noisy)
        c = precondition(sigma)
        sample = torch.cat([noisy * c.input.view(-1, 1, 1, 1, 1), condition], dim=2)
        ids = torch.stack(
            [
                torch.full_like(augmentation, self.diffusion.fps - 1),
                torch.full_like(augmentation, self.diffusion.motion_bucket),
                augmentation,
            ],
            dim=1,
        )
        with tapped(self.unet, taps, stop=not output) as reached:
            try:
                prediction = self.unet(sample, c.noise, context, ids, return_dict=False)[0]
            except LastTapReached:
                prediction = noisy.new_empty(0)
        return prediction, _join(reached, noisy.shape[1]) if taps else None

    @torch.no_grad()
    def generate(
        self,
        present: Float[Tensor, "b c h w"],
        context: Float[Tensor, "b n d"],
        frames: int,
        steps: int,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "b t c h w"]:
        """Sample a clip that starts at `present`, at the noise levels of diffusers' sampler."""
        sampler = scheduler(self.diffusion)
        sampler.set_timesteps(steps)
        shape = (len(present), frames, *present.shape[1:])
        noise = torch.randn(shape, generator=generator, device=present.device)
        return self.denoise(
            noise * sampler.init_noise_sigma, sampler.sigmas.to(present.device), present, context
        )

    def denoise(
        self,
        clip: Float[Tensor, "b t c h w"],
        levels: Float[Tensor, "levels"],
        present: Float[Tensor, "b c h w"],
        context: Float[Tensor, "b n d"],
    ) -> Float[Tensor, "b t c h w"]:
        """Bring a clip of noise level `levels[0]` to `levels[-1]`: Euler steps (Karras et al. 2022, algorithm 1).

        A single level leaves the clip as it is.
        """
        still = torch.zeros(len(present), device=present.device)
        for now, following in pairwise(levels):
            prediction, _ = self.predict(clip, now.expand(len(present)), present, context, still)
            c = precondition(now)
            denoised = c.skip * clip + c.out * prediction.float()
            clip = denoised + following / now * (clip - denoised)
        return clip


@contextmanager
def tapped(unet: nn.Module, taps: tuple[int, ...], stop: bool) -> Iterator[list[Tensor]]:
    """Collect the outputs of `unet.up_blocks[i]` while active; with `stop`, leave the forward at the last of them."""
    reached: list[Tensor] = []

    def collect(last: bool):
        def hook(_module: nn.Module, _inputs: tuple, output: Tensor) -> None:
            reached.append(output)
            if last and stop:
                raise LastTapReached

        return hook

    handles = [unet.up_blocks[i].register_forward_hook(collect(i == max(taps))) for i in sorted(taps)]
    try:
        yield reached
    finally:
        for handle in handles:
            handle.remove()


def _join(reached: list[Tensor], frames: int) -> Features:
    size = reached[-1].shape[-2:]
    resized = [x if x.shape[-2:] == size else F.interpolate(x, size, mode="bilinear") for x in reached]
    grid = torch.cat(resized, dim=1).unflatten(0, (-1, frames))
    pooled = torch.cat([x.mean(dim=(-2, -1)) for x in reached], dim=1).unflatten(0, (-1, frames))
    return Features(grid, pooled)


def random_unet(config: UNetConfig, latent_channels: int, frames: int) -> UNetSpatioTemporalConditionModel:
    """diffusers' class with random weights.

    Raises:
        UserError: channel counts that GroupNorm (32 groups) or the number of heads does not divide.
    """
    if len(config.attention) != len(config.channels):
        raise UserError(
            f"unet.attention has {len(config.attention)} entries, unet.channels {len(config.channels)}"
        )
    if bad := [c for c in config.channels if c % 32 or c % config.heads]:
        raise UserError(
            f"unet.channels {bad} must be divisible by 32 (GroupNorm) and by unet.heads {config.heads}"
        )
    prefix = ["CrossAttn" if a else "" for a in config.attention]
    return UNetSpatioTemporalConditionModel(
        in_channels=2 * latent_channels,
        out_channels=latent_channels,
        down_block_types=tuple(f"{p}DownBlockSpatioTemporal" for p in prefix),
        up_block_types=tuple(f"{p}UpBlockSpatioTemporal" for p in reversed(prefix)),
        block_out_channels=config.channels,
        addition_time_embed_dim=config.added_id_dim,
        projection_class_embeddings_input_dim=3 * config.added_id_dim,
        layers_per_block=config.layers_per_block,
        cross_attention_dim=config.context_dim,
        num_attention_heads=config.heads,
        num_frames=frames,
    )
