"""What makes training on a CPU faster, and nothing else different."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import PreTrainedModel


@contextmanager
def fast_attention(model: nn.Module, device: torch.device, precision: str) -> Iterator[None]:
    """Attention of `model` as plain matrix products, inside the block, where bf16 is trained on a CPU.

    There PyTorch's fused attention does not use the processor's bf16 units; its backward pass is slower than in
    float32 and than the products. transformers' models have a form of their own, which is faster still: PyTorch's
    looks each time for rows in which everything is masked. Elsewhere nothing changes.
    """
    if device.type != "cpu" or precision != "bf16":
        yield
        return
    of_transformers = [module for module in model.modules() if isinstance(module, PreTrainedModel)]
    forms = [module.config._attn_implementation for module in of_transformers]
    before = torch.backends.cuda.fp16_bf16_reduction_math_sdp_allowed()  # counts on every device
    try:
        for module in of_transformers:
            module.set_attn_implementation("eager")
        torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(True)
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(before)
        for module, form in zip(of_transformers, forms, strict=True):
            module.set_attn_implementation(form)
