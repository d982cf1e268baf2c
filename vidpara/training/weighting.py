"""How the named losses become one number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from vidpara.cli import UserError
from vidpara.config import LossConfig
from vidpara.types import Float

SETTINGS = {"normalize", "decay"}
NAMES = tuple(field.name for field in fields(LossConfig) if field.name not in SETTINGS)


class LossWeights:
    """Weight of each loss; with `normalize` the weight is divided by the loss's running mean.

    The running mean is an exponential average of the mean over all processes, corrected for its start at zero (as in
    Adam, Kingma & Ba 2015), so the first batch counts fully. It decays by `decay` an update, whatever the number of
    micro-steps, `accumulate`.
    """

    def __init__(self, weights: LossConfig | Mapping[str, float], accumulate: int = 1) -> None:
        if isinstance(weights, LossConfig):
            self.weights = {name: float(getattr(weights, name)) for name in NAMES}
            self.decay = weights.decay ** (1 / accumulate) if weights.normalize else None
        else:
            self.weights = dict(weights)
            self.decay = None
        self.names: tuple[str, ...] = ()
        self.accumulate, self.count = accumulate, 0.0
        self._average: Tensor | None = None
        self._values: Tensor | None = None

    @property
    def adapt(self) -> bool:
        """Whether the weights follow the losses, and so must know their means over all processes."""
        return self.decay is not None

    def bind(self, names: tuple[str, ...], device: torch.device) -> None:
        """Fix the order of the losses at the first batch, and check it on later ones.

        Raises:
            UserError: a loss has no weight, or a later batch has other losses than the first.
        """
        if names == self.names and self._values is not None:
            return
        if missing := [name for name in names if name not in self.weights]:
            raise UserError(
                f"loss '{missing[0]}' has no weight; the weights name {', '.join(self.weights)}: "
                f"set --loss.{missing[0]} (0 leaves it out of the sum)"
            )
        if self.names and names != self.names:
            raise UserError(
                f"the model returned losses {', '.join(names)}, and before {', '.join(self.names)}"
            )
        self.names = names
        self._values = torch.tensor([self.weights[name] for name in names], device=device)
        self._average = torch.zeros_like(self._values) if self._average is None else self._average.to(device)

    def update(self, means: Float[Tensor, "n"]) -> Float[Tensor, "n"]:
        """Take in this micro-step's losses (averaged over processes) and return the factor of each loss."""
        assert self._values is not None and self._average is not None, "bind comes first"
        if self.decay is None:
            return self._values
        self.count += 1
        self._average = torch.lerp(means, self._average, self.decay)
        return self._values / (self._average / (1 - self.decay**self.count)).clamp_min(1e-12)

    def plain(self, losses: Mapping[str, float]) -> float:
        """Weighted sum without normalisation: comparable between steps, between runs, and with validation."""
        return sum(self.weights[name] * value for name, value in losses.items())

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps; float32 survives JSON exactly."""
        average = [] if self._average is None else self._average.tolist()
        return {
            "names": list(self.names), "count": self.count, "accumulate": self.accumulate, "average": average
        }  # fmt: skip

    def load(self, state: Mapping[str, Any]) -> None:
        """Put back what `state` gave, which may have counted other micro-steps an update."""
        self.names = tuple(state["names"])
        self.count = state["count"] * (self.accumulate / state.get("accumulate", self.accumulate))
        self._average = torch.tensor(state["average"]) if state["average"] else None
