"""FSDP2: weights, gradients, moments and average divided among the processes (Zhao et al. 2023; torch's `fully_shard`).

An Accelerate file with `fsdp_version: 2` asks for it. Accelerate's own FSDP is for GPUs alone and decides the units by
class names; here the model names its layers, and the same code runs on CPU processes, where it is tested. With
`fsdp_reshard_after_forward: false` gathered weights are kept until the backward pass: ZeRO-2's trade of memory for
communication.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

from vidpara.cli import UserError
from vidpara.config import OptimizerConfig, TrainerConfig
from vidpara.training.divided import whole
from vidpara.training.optimizer import ParamGroup
from vidpara.training.processes import on_cpu
from vidpara.training.state import model_tensors

OTHERS = {"ACCELERATE_USE_DEEPSPEED": "DeepSpeed", "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM"}
"""How a launch asks for ways to divide weights that the trainer does not know."""
ASKED = "ACCELERATE_USE_FSDP"


class Sharding(NamedTuple):
    """How weights are divided; `reshard` gives a layer's gathered weights back after its forward pass."""

    reshard: bool


def check_launch(trainer: TrainerConfig, optimizer: OptimizerConfig) -> None:
    """Whether the launch file and the settings go together; stages ask before they load anything.

    Raises:
        UserError: the launch divides weights in a way that is unknown, or that these settings do not allow, or the
            precision is none of this device.
    """
    for variable, name in OTHERS.items():
        if _true(variable):
            raise UserError(
                f"the launch asks for {name}; the trainer divides weights by FSDP2 itself: launch with "
                "accelerate_configs/fsdp2.yaml, or accelerate_configs/zero2.yaml for ZeRO-2's trade"
            )
    if trainer.precision == "fp16" and on_cpu():
        raise UserError(
            "trainer.precision fp16 is for GPUs, this training runs on CPUs; set --trainer.precision auto, bf16 or no"
        )
    if not _true(ASKED) or int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return
    if trainer.precision == "fp16":
        raise UserError(
            "trainer.precision fp16 scales the loss, which does not work where FSDP2 divides weights; "
            "set --trainer.precision bf16 or no"
        )
    if optimizer.kind != "adamw":
        raise UserError(
            f"optimizer.kind {optimizer.kind} needs whole tensors, FSDP2 divides them; set --optimizer.kind adamw"
        )


def _true(variable: str) -> bool:
    return os.environ.get(variable, "false").lower() == "true"


def requested() -> Sharding | None:
    """What the launch file asks for. Accelerate is kept from sharding, too: the request is taken out of its sight."""
    asked = _true(ASKED)
    os.environ.pop(ASKED, None)
    if not asked:
        return None
    return Sharding(os.environ.get("FSDP_RESHARD_AFTER_FORWARD", "true").lower() == "true")


def shard(
    model: nn.Module, layers: Sequence[nn.Module], sharding: Sharding, device: torch.device, half: bool
) -> None:
    """Divide the weights of `model` in place: each of `layers` that has any is gathered by itself, all else together.

    With `half` the layers' weights are gathered in bf16, which halves the traffic; the divided ones stay float32.
    Inputs keep their precision, because a batch also holds cameras.

    Raises:
        UserError: weights lie in another order than row by row, which FSDP2 does not divide.
    """
    if not all(parameter.is_contiguous() for parameter in model.parameters()):
        raise UserError("unet.channels_last does not go with divided weights (FSDP2); leave it out")
    # diffusers' layers end in a reshape. Nothing adds to their outputs in place; gradients are those of whole weights.
    warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view tensor")
    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    full = MixedPrecisionPolicy(cast_forward_inputs=False)
    light = MixedPrecisionPolicy(torch.bfloat16, torch.float32, cast_forward_inputs=False) if half else full
    for part, policy in [
        *((layer, light) for layer in layers if any(True for _ in layer.parameters())),
        (model, full),
    ]:
        fully_shard(part, mesh=mesh, reshard_after_forward=sharding.reshard, mp_policy=policy)


def named_groups(model: nn.Module, groups: Sequence[ParamGroup]) -> list[tuple[ParamGroup, list[str]]]:
    """Each group with the names of its parameters: sharding puts other objects in their places."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return [(group, [names[id(parameter)] for parameter in group.parameters]) for group in groups]


def regrouped(model: nn.Module, named: Sequence[tuple[ParamGroup, list[str]]]) -> list[ParamGroup]:
    """The groups with the parameters that now bear those names."""
    parameters = dict(model.named_parameters())
    return [group._replace(parameters=[parameters[name] for name in names]) for group, names in named]


@contextmanager
def gathered(model: nn.Module, plain: nn.Module, device: torch.device) -> Iterator[nn.Module]:
    """`plain`, a copy from before the division, with the weights of `model` and on the device inside the block.

    There one process may run it alone. `model` itself must run on all or none: FSDP remembers the order of the layers
    that ran, without gradients, too, and asks the others for them in that order in the next backward pass.
    """
    copy_whole(model, plain.to(device))
    try:
        yield plain
    finally:
        plain.to("cpu")


@torch.no_grad()
def copy_whole(model: nn.Module, plain: nn.Module) -> None:
    """Gather the weights of `model`, one after the other, into `plain` on every process."""
    into = model_tensors(plain)
    for name, value in model_tensors(model).items():
        into[name].copy_(whole(value))
