"""Binned readouts of one feature vector: gripper closing and Euler angles."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import nn

from vidpara.geometry.bins import Bins
from vidpara.types import Actions, Float, Tensor


class Readout(nn.Sequential):
    """LayerNorm, linear, GELU, linear."""

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__(
            nn.LayerNorm(channels), nn.Linear(channels, channels), nn.GELU(), nn.Linear(channels, outputs)
        )


def angle_bins(count: int) -> Bins:
    """Bins of one Euler angle relative to the home rotation, over the full circle (radians)."""
    return Bins(-math.pi, math.pi, count)


def bin_loss(
    logits: Float[Tensor, "*b k"], coordinate: Float[Tensor, "*b"], hard: bool = False
) -> Float[Tensor, "*b"]:
    """Cross-entropy against a continuous bin coordinate, shared between the two bins around it."""
    coordinate = coordinate.round() if hard else coordinate
    low = coordinate.floor().long().clamp(0, logits.shape[-1] - 1)
    high = (low + 1).clamp_max(logits.shape[-1] - 1)
    log_probability = logits.float().log_softmax(-1)
    at_low, at_high = (log_probability.gather(-1, i[..., None])[..., 0] for i in (low, high))
    return -torch.lerp(at_low, at_high, coordinate - low)


def mean_over_steps(
    each: Mapping[str, Float[Tensor, "b a"]], actions: Actions
) -> dict[str, Float[Tensor, ""]]:
    """Every loss averaged over the action steps that have a label for it; 0 where none has."""
    means = {}
    for name, value in each.items():
        labelled = actions.valid & actions.has_rotation if name == "rotation" else actions.valid
        valid = labelled.float()
        means[name] = (value * valid).sum() / valid.sum().clamp_min(1)
    return means
