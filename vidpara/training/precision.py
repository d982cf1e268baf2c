"""In which numbers a machine trains, and what goes with them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from vidpara.config import TrainerConfig


def precision_of(config: TrainerConfig) -> str:
    """`auto` becomes bf16 where this machine computes in it."""
    if config.precision != "auto":
        return config.precision
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "no"
    processor = Path("/proc/cpuinfo")
    flags = set(processor.read_text().split()) if processor.is_file() else set()
    return "bf16" if flags & {"avx512_bf16", "amx_bf16"} else "no"


@contextmanager
def fast_attention(device: torch.device, precision: str) -> Iterator[None]:
    """Attention as plain matrix products, inside the block, where bf16 is trained on a CPU.

    There PyTorch's fused attention does not use the processor's bf16 units; its backward pass is slower than in
    float32 and than the products. Elsewhere nothing changes.
    """
    if device.type != "cpu" or precision != "bf16":
        yield
        return
    before = torch.backends.cuda.fp16_bf16_reduction_math_sdp_allowed()  # counts on every device
    torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(True)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(before)
