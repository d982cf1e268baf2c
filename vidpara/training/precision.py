"""In which numbers a machine trains."""

from __future__ import annotations

from pathlib import Path

import torch

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
