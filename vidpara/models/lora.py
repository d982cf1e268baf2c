"""Low-rank adapters (Hu et al. 2022) on the UNet's attention and feed-forward layers, through peft.

The published weights stay as they are; only the adapters learn. At the end they are merged, so that a saved UNet is an
ordinary one.
"""

from __future__ import annotations

from torch import nn

from vidpara.cli import UserError

TARGETS = ("to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2", "ff_in.net.0.proj", "ff_in.net.2")


def add_lora(unet: nn.Module, rank: int) -> None:
    """Freeze the UNet and give its linear layers adapters of `rank`, which begin as nothing.

    Raises:
        UserError: peft is not installed, or no layer fits.
    """
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
