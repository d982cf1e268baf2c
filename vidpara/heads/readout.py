"""Binned readouts of one feature vector: gripper closing and Euler angles."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import torch
from torch import nn

from vidpara.geometry.bins import Bins
from vidpara.geometry.rotation import wrap
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
    return _shared(logits, low, high, coordinate - low)


def angle_loss(
    logits: Float[Tensor, "*b k"], angle: Float[Tensor, "*b"], hard: bool = False
) -> Float[Tensor, "*b"]:
    """The same for an angle (radians): the last bin's other neighbour is the first."""
    bins = angle_bins(logits.shape[-1])
    coordinate = (angle - bins.low) / bins.width - 0.5
    coordinate = coordinate.round() if hard else coordinate
    low = coordinate.floor().long()
    return _shared(logits, low % bins.count, (low + 1) % bins.count, coordinate - low)


def angle_of(logits: Float[Tensor, "*b k"], decode: Literal["local_mean", "argmax"]) -> Float[Tensor, "*b"]:
    """The angle (radians) of the best bin, or the mean of it and its two neighbours, which places it between bins.

    A bin is 11 degrees wide at 32 of them, and no bin's centre is 0.
    """
    bins, best = angle_bins(logits.shape[-1]), logits.argmax(-1)
    if decode == "argmax":
        return bins.value(best.float())
    aside = torch.arange(-1, 2, device=logits.device)
    near = logits.float().softmax(-1).gather(-1, (best[..., None] + aside) % bins.count)
    return wrap(bins.value(best + (near * aside).sum(-1) / near.sum(-1)))


def _shared(logits: Tensor, low: Tensor, high: Tensor, fraction: Tensor) -> Tensor:
    """Cross-entropy against two bins, of which `high` has this fraction."""
    log_probability = logits.float().log_softmax(-1)
    at_low, at_high = (log_probability.gather(-1, i[..., None])[..., 0] for i in (low, high))
    return -torch.lerp(at_low, at_high, fraction)


def exactly(layer: nn.Linear, hidden: Float[Tensor, "*b c"]) -> Float[Tensor, "*b d"]:
    """The layer in its weights' precision, also inside autocast: bf16 would round coordinates to millimetres."""
    with torch.autocast(hidden.device.type, enabled=False):
        return layer(hidden.to(layer.weight.dtype))


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
