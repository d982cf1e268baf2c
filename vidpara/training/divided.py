"""Tensors that FSDP divides among the processes: gathered to be written, divided again when they are read."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor


def whole(tensor: Tensor) -> Tensor:
    """The tensor, gathered from all processes where it is divided; every process calls this."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def like(value: Tensor, divided: Tensor) -> Tensor:
    """This process's part of `value`, divided as `divided` is, of the same shape; whole it has the same strides.

    Fused optimizers take a parameter and its moments for equally laid out, or refuse them.
    """
    if not isinstance(divided, DTensor):
        return torch.empty_like(divided, dtype=value.dtype).copy_(value)
    own = value.to(divided.device)  # every process has read the same file: none has to send it
    part = distribute_tensor(own, divided.device_mesh, divided.placements, src_data_rank=None)
    return part.clone()  # it may be a view, which would keep the whole


def all_whole(tensors: Mapping[str, Tensor], keep: bool) -> dict[str, Tensor]:
    """Every tensor gathered, one after the other, and kept on the CPU by the process that writes them."""
    found = {}
    for name, tensor in tensors.items():
        value = whole(tensor.detach())
        if keep:
            found[name] = value.cpu() if isinstance(tensor, DTensor) else value
    return found


def own_rows(tensors: Mapping[str, Tensor], first: bool) -> dict[str, Tensor]:
    """What this process alone holds: its rows of every divided tensor; the first one also holds the others."""
    divided = {name: t.detach().to_local().cpu() for name, t in tensors.items() if isinstance(t, DTensor)}
    return {name: t.detach() for name, t in tensors.items() if first and name not in divided} | divided
