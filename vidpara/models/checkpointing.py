"""Gradient checkpointing: keep the inputs of whole layers, and compute what lies inside again in the backward pass.

Chen et al. 2016 ("Training deep nets with sublinear memory cost"): compute grows by one forward, a third. diffusers'
own leaves out the temporal transformer blocks, which hold most of the activations. A whole UNet block as the unit would
keep less, but what is computed again at a time would take more. torch's selective checkpointing, which keeps the
results of products, is not used: outside compiled graphs its bookkeeping in Python costs more than it saves.
"""

from __future__ import annotations

import functools
import types
from typing import Any, Literal

import torch
from diffusers import UNetSpatioTemporalConditionModel
from diffusers.models.resnet import SpatioTemporalResBlock
from diffusers.models.transformers.transformer_temporal import TransformerSpatioTemporalModel
from torch import nn
from torch.utils import checkpoint


def checkpoint_layers(unet: UNetSpatioTemporalConditionModel, which: Literal["finest", "layers"]) -> None:
    """Checkpoint ResNet and transformer layers, spatial and temporal parts together: all, or those of the finest grid.

    Every level of the UNet computes about as much as any other, but from one to the next its activations halve.
    """
    blocks = [unet.down_blocks[0], unet.up_blocks[-1]] if which == "finest" else [unet]
    for layer in (layer for block in blocks for layer in layers(block)):
        layer.forward = types.MethodType(_checkpointed, layer)  # a method, so that a copied layer runs itself


def layers(model: nn.Module) -> list[nn.Module]:
    """The UNet's layers, which hold almost all of its weights: the units of checkpointing and of FSDP."""
    kinds = SpatioTemporalResBlock | TransformerSpatioTemporalModel
    return [module for module in model.modules() if isinstance(module, kinds)]


def _checkpointed(layer: nn.Module, *inputs: Any, **named: Any) -> Any:
    forward = functools.partial(type(layer).forward, layer)
    if not torch.is_grad_enabled():
        return forward(*inputs, **named)
    return checkpoint.checkpoint(forward, *inputs, use_reentrant=False, **named)
