"""AdamW or Muon over named parameter groups, and the learning rate as a pure function of the step."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from vidpara.cli import UserError
from vidpara.config import OptimizerConfig
from vidpara.training.divided import like
from vidpara.training.muon import Muon


class ParamGroup(NamedTuple):
    """Parameters that share a learning rate; `name` shows in the log.

    The matrices of a `hidden` group lie between hidden layers: those are what Muon is for.
    """

    name: str
    parameters: Sequence[nn.Parameter]
    lr: float
    hidden: bool = False


def lr_at(step: int, steps: int, config: OptimizerConfig, base: float | None = None) -> float:
    """Learning rate of update `step` (from 0) of `steps`: linear warmup to `base`, then cosine to 0 or constant."""
    base = config.lr if base is None else base
    if step < config.warmup:
        return base * (step + 1) / config.warmup
    if config.decay == "constant":
        return base
    done = (step - config.warmup) / max(1, steps - config.warmup)
    return base * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def build_optimizer(
    model: nn.Module, groups: Sequence[ParamGroup], config: OptimizerConfig
) -> torch.optim.Optimizer:
    """Fused AdamW, also in 8 bits, or Muon for the matrices of hidden groups, or of all; vectors have no weight decay.

    Raises:
        ValueError: a trainable parameter is in no group or in several, or a group holds a foreign one.
    """
    grouped = [parameter for group in groups for parameter in group.parameters if parameter.requires_grad]
    trainable = dict(_trainable(model))
    held = {id(parameter) for parameter in grouped}
    if len(held) < len(grouped):
        raise ValueError("a parameter is in several groups; put each one in a single ParamGroup")
    if missing := [name for name, parameter in trainable.items() if id(parameter) not in held]:
        raise ValueError(
            f"no ParamGroup holds {missing[0]} and {len(missing) - 1} others; add them or freeze them"
        )
    if len(grouped) > len(trainable):
        raise ValueError(
            f"the groups hold {len(grouped)} parameters, the model has {len(trainable)} trainable ones"
        )
    settings = []
    for group in groups:
        parameters = [parameter for parameter in group.parameters if parameter.requires_grad]
        for decay, chosen in (
            (config.weight_decay, [parameter for parameter in parameters if parameter.ndim >= 2]),
            (0.0, [parameter for parameter in parameters if parameter.ndim < 2]),
        ):
            if chosen:
                hidden = (group.hidden or config.muon_head) and chosen[0].ndim >= 2
                orthogonal = config.kind == "muon" and hidden
                settings.append(
                    {"params": chosen, "weight_decay": decay, "base_lr": group.lr, "orthogonal": orthogonal}
                )
    if config.kind == "muon":
        return Muon(settings, config.lr, config.betas)
    if config.kind == "adamw8bit":
        return _adamw_8bit(settings, config)
    return torch.optim.AdamW(settings, lr=config.lr, betas=config.betas, fused=True)


def _adamw_8bit(settings: list[dict[str, Any]], config: OptimizerConfig) -> torch.optim.Optimizer:
    """AdamW whose moments are quantised block by block (Dettmers et al. 2022); small tensors keep theirs in float32."""
    try:
        from bitsandbytes.optim import AdamW8bit  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError as missing:
        raise UserError(
            "optimizer.kind adamw8bit needs the package 'bitsandbytes'; install the extra: pip install -e '.[8bit]'"
        ) from missing
    return AdamW8bit(settings, lr=config.lr, betas=config.betas)


def set_lr(optimizer: torch.optim.Optimizer, step: int, steps: int, config: OptimizerConfig) -> None:
    """Give every group its learning rate for update `step`."""
    for group in optimizer.param_groups:
        group["lr"] = lr_at(step, steps, config, group["base_lr"])


def optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's state as flat tensors named PARAMETER/STATE, ready for safetensors.

    bitsandbytes' table of codes (`qmap`) is one tensor for all parameters, which safetensors refuses; each gets a copy.
    """
    return {
        f"{name}/{key}": value.clone() if key.startswith("qmap") else torch.as_tensor(value)
        for name, parameter in _trainable(model)
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def load_optimizer_tensors(
    model: nn.Module, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]
) -> None:
    """Put back what `optimizer_tensors` gave, copied: the file that it is read from may then be deleted."""
    parameters = dict(_trainable(model))
    for flat, value in tensors.items():
        name, key = flat.rsplit("/", 1)
        parameter = parameters[name]
        if value.shape == parameter.shape:
            optimizer.state[parameter][key] = like(value, parameter)
        elif key == "step" and not isinstance(optimizer, torch.optim.AdamW | Muon):
            optimizer.state[parameter][key] = int(value)  # bitsandbytes counts in Python
        elif key == "step" and isinstance(optimizer, Muon):
            optimizer.state[parameter][key] = value.clone()  # not fused: on a GPU the host would wait for it
        else:
            optimizer.state[parameter][key] = value.to(parameter.device, copy=True)


def _trainable(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
