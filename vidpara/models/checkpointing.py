"""Gradient checkpointing: keep the inputs of whole layers, and compute what lies inside again in the backward pass.

diffusers' own leaves out the temporal transformer blocks, which hold most of the activations. Chen et al. 2016
("Training deep nets with sublinear memory cost"): compute grows by one forward, a third. A whole UNet block as the unit
would keep less, but what is computed again at a time would take more.
"""

from __future__ import annotations

import functools
import types
from typing import Any

import torch
from diffusers.models.resnet import SpatioTemporalResBlock
from diffusers.models.transformers.transformer_temporal import TransformerSpatioTemporalModel
from torch import nn
from torch.utils import checkpoint


def checkpoint_layers(unet: nn.Module) -> None:
    """Checkpoint every ResNet and every transformer layer, spatial and temporal parts together."""
    for layer in layers(unet):
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
