"""Fixed embeddings of places, in a sequence and in an image."""

from __future__ import annotations

import math

import torch

from vidpara.types import Float, Tensor


def positions(count: int, width: int, device: torch.device | None = None) -> Float[Tensor, "n d"]:
    """Sinusoidal embeddings of places 0 to `count` - 1 (Vaswani et al. 2017, section 3.5)."""
    rate = torch.exp(-math.log(10_000) * torch.arange(0, width, 2, device=device) / width)
    phase = torch.arange(count, device=device)[:, None] * rate
    return torch.stack([phase.sin(), phase.cos()], dim=-1).flatten(1)


def positions_2d(
    rows: int, columns: int, width: int, device: torch.device | None = None
) -> Float[Tensor, "n d"]:
    """Half of the channels for the row, half for the column (Carion et al. 2020), row by row."""
    vertical = positions(rows, width // 2, device)[:, None].expand(-1, columns, -1)
    horizontal = positions(columns, width // 2, device)[None].expand(rows, -1, -1)
    return torch.cat([vertical, horizontal], dim=-1).flatten(0, 1)
