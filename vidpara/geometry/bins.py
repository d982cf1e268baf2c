"""Uniform bins over an interval: values to bin coordinates and back."""

from __future__ import annotations

from typing import NamedTuple

import torch

from vidpara.types import Float, Tensor


class Bins(NamedTuple):
    """`count` equal bins over [low, high]; bin i has its centre at low + (i + 0.5) * width."""

    low: float
    high: float
    count: int

    @property
    def width(self) -> float:
        return (self.high - self.low) / self.count

    def centers(self) -> Float[Tensor, "k"]:
        """Centre of each bin, in the unit of the interval."""
        return self.low + (torch.arange(self.count) + 0.5) * self.width

    def coordinate(self, value: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        """Continuous bin coordinate: i exactly at the centre of bin i, clamped to the outermost centres."""
        return ((value - self.low) / self.width - 0.5).clamp(0, self.count - 1)

    def value(self, coordinate: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        """Inverse of `coordinate`."""
        return self.low + (coordinate + 0.5) * self.width

    def one_hot(self, value: Float[Tensor, "*b"]) -> Float[Tensor, "*b k"]:
        """Each value shared linearly between the two bins around it."""
        coordinate = self.coordinate(value)[..., None]
        return (1 - (coordinate - torch.arange(self.count, device=value.device)).abs()).clamp_min(0)
