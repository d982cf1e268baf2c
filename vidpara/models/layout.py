"""How weights of convolutions lie in memory."""

from __future__ import annotations

import torch
from torch import nn

LAYOUTS = {4: torch.channels_last, 5: torch.channels_last_3d}


def use_channels_last(module: nn.Module) -> None:
    """Lay the kernels of 2-D and 3-D convolutions out with their channels last, in place; their output follows.

    Tensor cores read this layout; the values, names and shapes of the weights stay as they are.
    """
    for parameter in module.parameters():
        if parameter.dim() in LAYOUTS:
            parameter.data = parameter.data.contiguous(memory_format=LAYOUTS[parameter.dim()])
