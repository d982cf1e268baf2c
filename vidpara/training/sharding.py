"""FSDP2: weights, gradients, moments and average divided among the processes (Zhao et al. 2023; torch's `fully_shard`).

An Accelerate file with `fsdp_version: 2` asks for it. Accelerate's own FSDP is for GPUs alone and decides the units by
class names; here the model names its layers, and the same code runs on CPU processes, where it is tested. With
`fsdp_reshard_after_forward: false` gathered weights are kept until the backward pass: ZeRO-2's trade of memory for
communication.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

from vidpara.training.optimizer import ParamGroup


class Sharding(NamedTuple):
    """How weights are divided; `reshard` gives a layer's gathered weights back after its forward pass."""

    reshard: bool


def requested() -> Sharding | None:
    """What the launch file asks for. Accelerate is kept from sharding, too: the request is taken out of its sight."""
    if os.environ.pop("ACCELERATE_USE_FSDP", "false").lower() != "true":
        return None
    return Sharding(os.environ.get("FSDP_RESHARD_AFTER_FORWARD", "true").lower() == "true")


def shard(
    model: nn.Module, layers: Sequence[nn.Module], sharding: Sharding, device: torch.device, half: bool
) -> None:
    """Divide the weights of `model` in place: each of `layers` is gathered by itself, all else together.

    With `half` the layers' weights are gathered in bf16, which halves the traffic; the divided ones stay float32.
    Inputs keep their precision, because a batch also holds cameras.
    """
    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    whole = MixedPrecisionPolicy(cast_forward_inputs=False)
    light = MixedPrecisionPolicy(torch.bfloat16, torch.float32, cast_forward_inputs=False) if half else whole
    for part, policy in [*((layer, light) for layer in layers), (model, whole)]:
        fully_shard(part, mesh=mesh, reshard_after_forward=sharding.reshard, mp_policy=policy)
        part.reshards = sharding.reshard


def named_groups(model: nn.Module, groups: Sequence[ParamGroup]) -> list[tuple[ParamGroup, list[str]]]:
    """Each group with the names of its parameters: sharding puts other objects in their places."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return [(group, [names[id(parameter)] for parameter in group.parameters]) for group in groups]


def regrouped(model: nn.Module, named: Sequence[tuple[ParamGroup, list[str]]]) -> list[ParamGroup]:
    """The groups with the parameters that now bear those names."""
    parameters = dict(model.named_parameters())
    return [group._replace(parameters=[parameters[name] for name in names]) for group, names in named]


@contextmanager
def gathered(model: nn.Module) -> Iterator[None]:
    """All weights whole on every process inside the block, so that one process may run the model alone."""
    parts = [module for module in model.modules() if isinstance(module, FSDPModule)]
    for part in parts:
        part.unshard()
        part.set_reshard_after_forward(False, recurse=False)
    try:
        yield
    finally:
        for part in parts:
            part.reshard()
            part.set_reshard_after_forward(part.reshards, recurse=False)
