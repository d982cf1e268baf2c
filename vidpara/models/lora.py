"""Low-rank adapters (Hu et al. 2022) on the UNet's attention and feed-forward layers, through peft.

The published weights stay as they are; only the adapters learn. At the end they are merged, so that a saved UNet is an
ordinary one.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

from vidpara.cli import UserError

TARGETS = ("to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2", "ff_in.net.0.proj", "ff_in.net.2")


def add_lora(unet: nn.Module, rank: int) -> None:
    """Freeze the UNet and give its linear layers adapters of `rank`, which begin as nothing.

    A UNet of fake tensors gets layers of the same shapes: peft cannot adapt it.

    Raises:
        UserError: peft is not installed, or no layer fits.
    """
    if isinstance(next(unet.parameters()), FakeTensor):
        return _add_shaped(unet, rank)
    try:
        from peft import LoraConfig, inject_adapter_in_model  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError as missing:
        raise UserError(
            "unet.lora needs the package 'peft'; install the extra: pip install -e '.[peft]'"
        ) from missing
    unet.requires_grad_(False)
    try:
        inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=rank, target_modules=list(TARGETS)), unet)
    except ValueError as error:
        raise UserError(
            f"unet.lora {rank}: {error}; the UNet needs transformer blocks (unet.attention)"
        ) from error


def merge_lora(unet: nn.Module) -> None:
    """Add the adapters to the weights and put ordinary layers back in their places, if there are any."""
    for parent in list(unet.modules()):
        for name, layer in list(parent.named_children()):
            if hasattr(layer, "get_base_layer") and hasattr(layer, "merge"):
                layer.merge()
                setattr(parent, name, layer.get_base_layer())


def _add_shaped(unet: nn.Module, rank: int) -> None:
    """Layers that train, and keep for the backward pass, what peft's do."""
    unet.requires_grad_(False)
    for name, layer in list(unet.named_modules()):
        if isinstance(layer, nn.Linear) and any(name.endswith(f".{target}") for target in TARGETS):
            parent, _, own = name.rpartition(".")
            setattr(unet.get_submodule(parent), own, _Adapted(layer, rank))


class _Adapted(nn.Module):
    """A frozen linear layer and, added to it, one of `rank` that learns."""

    def __init__(self, base: nn.Linear, rank: int) -> None:
        super().__init__()
        self.base = base
        self.down = nn.Parameter(torch.zeros(rank, base.in_features))
        self.up = nn.Parameter(torch.zeros(base.out_features, rank))

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + F.linear(F.linear(x, self.down), self.up)
