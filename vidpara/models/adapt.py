"""A published UNet for another number of input channels or frames: exact where it can be, with a word on the change."""

from __future__ import annotations

import torch
from diffusers import UNetSpatioTemporalConditionModel
from torch import nn

from vidpara.cli import UserError


def adapt(unet: UNetSpatioTemporalConditionModel, channels: int, frames: int) -> list[str]:
    """Make `unet` take `channels` input channels and clips of `frames`, in place. Returns what was changed, in words.

    New input channels begin with zero weights, so the output is that of the old network until training changes it.
    Frames need no weights: their positions are sinusoids, so any number of them runs, and fewer is what the first ones
    of a longer clip were.

    Raises:
        UserError: it takes more channels than there are to give.
    """
    changed = []
    if unet.config.in_channels > channels:
        raise UserError(
            f"the UNet takes {unet.config.in_channels} input channels, noisy and conditioning latents together have "
            f"{channels}; choose the autoencoder that it was trained with (--autoencoder.kind and .weights)"
        )
    if unet.config.in_channels < channels:
        changed.append(
            f"{unet.config.in_channels} input channels became {channels}; the new ones begin at zero"
        )
        unet.conv_in = _wider(unet.conv_in, channels)
        unet.register_to_config(in_channels=channels)
    if unet.config.num_frames != frames:
        changed.append(
            f"clips of {unet.config.num_frames} frames became clips of {frames}; no weight changed"
        )
        unet.register_to_config(num_frames=frames)
    return changed


@torch.no_grad()
def _wider(old: nn.Conv2d, channels: int) -> nn.Conv2d:
    new = nn.Conv2d(channels, old.out_channels, old.kernel_size, old.stride, old.padding)
    new = new.to(old.weight.device, old.weight.dtype)
    new.weight.zero_()
    new.weight[:, : old.in_channels] = old.weight
    if old.bias is not None and new.bias is not None:
        new.bias.copy_(old.bias)
    return new
