"""The steps' losses, kept on the device until somebody needs them, so that no step waits for a GPU."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from vidpara.cli import UserError
from vidpara.types import Float


class StepRecord(NamedTuple):
    """What one update reported."""

    step: int
    losses: dict[str, float]
    grad_norm: float
    stop: bool


class PendingLosses:
    """Adds without reading; reads all at once."""

    def __init__(self, *, check_gradient: bool) -> None:
        self.check_gradient = check_gradient
        self._names: tuple[str, ...] = ()
        self._pending: list[tuple[int, Tensor]] = []

    def add(self, step: int, names: tuple[str, ...], values: Float[Tensor, "n"], grad_norm: Tensor) -> None:
        """Keep finished update `step`: its losses and the stop flag in `values`, means over all processes."""
        self._names = names
        self._pending.append((step, torch.cat([values, grad_norm.detach().reshape(1).to(values)])))

    def read(self) -> list[StepRecord]:
        """Everything added since the last read.

        Raises:
            UserError: a loss or the gradient is not finite; it names the first such step and its losses.
        """
        if not self._pending:
            return []
        steps = [step for step, _ in self._pending]
        rows = torch.stack([row for _, row in self._pending]).tolist()
        self._pending.clear()
        records = []
        for step, (*losses, stop, grad_norm) in zip(steps, rows, strict=True):
            record = StepRecord(step, dict(zip(self._names, losses, strict=True)), grad_norm, stop > 0)
            if not all(map(math.isfinite, losses)) or (self.check_gradient and not math.isfinite(grad_norm)):
                named = ", ".join(f"{name} {value:g}" for name, value in record.losses.items())
                raise UserError(
                    f"step {step}: not finite ({named}; gradient norm {grad_norm:g}). Lower --optimizer.lr, set "
                    "--trainer.precision no, or look at the data; the command goes on from the last checkpoint, "
                    "with these two changed as well"
                )
            records.append(record)
        return records
