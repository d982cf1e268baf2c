"""Geometry is computed in full precision, also inside autocast: bf16 has three digits, which is centimetres."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TypeVar

import torch
from torch.utils._pytree import tree_leaves

F = TypeVar("F", bound=Callable)


def full_precision(function: F) -> F:
    """The same function with autocast turned off inside."""

    @functools.wraps(function)
    def run(*args, **named):
        device = next(x.device for x in tree_leaves((args, named)) if isinstance(x, torch.Tensor))
        with torch.autocast(device.type, enabled=False):
            return function(*args, **named)

    return run  # pyright: ignore[reportReturnType]
