"""Exponential moving average of the trainable weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from vidpara.training.divided import like


class Ema:
    """Average with decay min(`decay`, (1 + n) / (10 + n)) at update n, so that the start is forgotten; 0 is off."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        trainable = {name: value for name, value in model.named_parameters() if value.requires_grad}
        self._parameters = trainable if decay > 0 else {}
        self._average = {name: value.detach().clone() for name, value in self._parameters.items()}

    @torch.no_grad()
    def update(self, updates: int) -> None:
        """Take in the weights after optimizer update number `updates` (from 1)."""
        if self._average:
            decay = min(self.decay, (1 + updates) / (10 + updates))
            torch._foreach_lerp_(list(self._average.values()), list(self._parameters.values()), 1 - decay)

    @contextmanager
    def swapped_in(self) -> Iterator[None]:
        """The model has the averaged weights inside the block; nothing is copied, unless they are divided."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def copy_to_model(self) -> None:
        """Overwrite the model's weights by the average."""
        for name, parameter in self._parameters.items():
            parameter.copy_(self._average[name])

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint keeps; nothing when the average is off."""
        return self._average

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Put back what `tensors` gave."""
        for name, value in tensors.items():
            self._average[name].copy_(like(value, self._average[name]))

    def _swap(self) -> None:
        for name, parameter in self._parameters.items():
            if isinstance(parameter, DTensor):  # FSDP keeps views of its parts: their contents change places
                kept = parameter.detach().clone()
                parameter.data.copy_(self._average[name])
                self._average[name].copy_(kept)
            else:
                parameter.data, self._average[name] = self._average[name], parameter.data
