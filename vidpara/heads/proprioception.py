"""What a head without a start keypoint is told of the hand."""

from __future__ import annotations

import torch

from vidpara.config import HeadConfig
from vidpara.types import Float, Tensor


def proprioception(
    state: Float[Tensor, "b 4"], per_metre: Float[Tensor, "3"], config: HeadConfig, training: bool
) -> Float[Tensor, "b 4"]:
    """The state (position and opening, in the head's units) as `config` has it told.

    `per_metre` is how much of the head's units a metre is, along each axis.
    """
    position, opening = state.split((3, 1), dim=-1)
    if config.state == "opening":
        position = torch.zeros_like(position)
    elif training and config.state_noise:
        position = position + config.state_noise * per_metre * torch.randn_like(position)
    return torch.cat([position, opening], dim=-1)
