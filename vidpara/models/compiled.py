"""torch.compile, layer by layer; weights keep their names."""

from __future__ import annotations

from torch import nn

from vidpara.models.checkpointing import layers

VARIANTS = 4
"""Of a layer, which are compiled at the most: with and without gradients, for one batch size and for any."""


def compile_layers(unet: nn.Module) -> None:
    """Compile every ResNet and transformer layer by itself, when it first runs.

    To torch all ResNets are one function of many variants, since their shapes differ, and so are all transformers. It
    compiles eight of one function unless told otherwise, and runs the others as they are: SVD's UNet has more.
    """
    from torch._dynamo import config  # only here: the import is slow

    found = layers(unet)
    config.recompile_limit = max(config.recompile_limit, VARIANTS * len(found))
    for layer in found:
        layer.compile()
