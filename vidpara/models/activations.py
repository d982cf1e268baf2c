"""What a forward pass keeps for the backward pass, counted storage by storage; fake tensors count like real ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import checkpoint
from torch.utils._pytree import tree_leaves


class Saved:
    """Storages that autograd or a checkpointed region keeps for the backward pass, weights apart."""

    def __init__(self, model: nn.Module, known: Mapping[int, Tensor] | None = None) -> None:
        self._own = {value.untyped_storage()._cdata for value in (*model.parameters(), *model.buffers())}
        self._own.update(known or ())
        self._kept: dict[int, Tensor] = {}
        self._model = model
        self.largest = 0
        """Most that the inside of one checkpointed region keeps while it is computed again."""

    @property
    def bytes(self) -> int:
        return sum(tensor.untyped_storage().nbytes() for tensor in self._kept.values())

    def add(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in self._own:
            self._kept[storage._cdata] = tensor  # kept alive, so that no other storage gets its number
        return tensor

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Count what is saved inside the block. Checkpointed regions keep their inputs, in closures, and no more."""
        original = checkpoint.checkpoint

        def region(function: Any, *inputs: Any, use_reentrant: bool = False, **named: Any) -> Any:
            for value in tree_leaves((inputs, named)):
                if isinstance(value, Tensor):
                    self.add(value)
            inside = Saved(self._model, self._kept)
            with torch.autograd.graph.saved_tensors_hooks(inside.add, lambda tensor: tensor):
                output = function(*inputs, **named)
            self.largest = max(self.largest, inside.bytes)
            return output

        checkpoint.checkpoint = region
        try:
            with torch.autograd.graph.saved_tensors_hooks(self.add, lambda tensor: tensor):
                yield
        finally:
            checkpoint.checkpoint = original


def activations(model: nn.Module, run: Callable[[], Any]) -> Saved:
    """What `run()`, a forward of `model`, keeps for the backward pass."""
    saved = Saved(model)
    with saved.watching():
        run()
    return saved
