"""The PARA volume: losses over (height bin x row x column) logits, and decoding of their peak."""

from __future__ import annotations

from typing import NamedTuple

import torch

from vidpara.types import Float, Int, Tensor


class SoftCells(NamedTuple):
    """A target spread over the eight cells around it: indices (bin, row, column) and weights that sum to one."""

    index: Int[Tensor, "*b 8 3"]
    weight: Float[Tensor, "*b 8"]


def soft_cells(cell: Float[Tensor, "*b 2"], height: Float[Tensor, "*b"], hard: bool = False) -> SoftCells:
    """Trilinear weights of a continuous (column, row) and height-bin coordinate; `hard` rounds to one cell first.

    Indices may leave the grid by one; `volume_loss` clamps them, so that a border cell takes the whole weight.
    """
    point = torch.stack([height, cell[..., 1], cell[..., 0]], dim=-1)
    if hard:
        point = point.round()
    low = point.floor()
    corner = torch.cartesian_prod(*(torch.arange(2, device=point.device),) * 3)
    fraction = (point - low)[..., None, :]
    weight = torch.where(corner.bool(), fraction, 1 - fraction).prod(-1)
    return SoftCells(low.long()[..., None, :] + corner, weight)


def volume_loss(logits: Float[Tensor, "b a k h w"], target: SoftCells) -> Float[Tensor, "b a"]:
    """Cross-entropy of each step's volume, one softmax over all bins and pixels, against its soft target.

    It is also that of a softmax over pixels (of the log-sum over bins) plus one over bins at the target's pixels:
    p(pixel) p(bin | pixel) is p(pixel, bin).
    """
    bins, rows, columns = logits.shape[-3:]
    k, v, u = (i.clamp(0, n - 1) for i, n in zip(target.index.unbind(-1), (bins, rows, columns), strict=True))
    flat = logits.float().flatten(-3)
    at_target = flat.gather(-1, (k * rows + v) * columns + u)
    return flat.logsumexp(-1) - (target.weight * at_target).sum(-1)


def peak(logits: Float[Tensor, "b a k h w"]) -> Int[Tensor, "b a 3"]:
    """(bin, row, column) of the largest logit of each step."""
    _, rows, columns = logits.shape[-3:]
    flat = logits.flatten(-3).argmax(-1)
    return torch.stack([flat // (rows * columns), flat // columns % rows, flat % columns], dim=-1)


def local_mean(
    probability: Float[Tensor, "b a k h w"], best: Int[Tensor, "b a 3"], radius: int = 1
) -> Float[Tensor, "b a 3"]:
    """Probability-weighted mean cell within `radius` of the best one, which places it between cells."""
    sizes = torch.tensor(probability.shape[-3:], device=best.device)
    offsets = torch.cartesian_prod(*(torch.arange(-radius, radius + 1, device=best.device),) * 3)
    cells = best[..., None, :] + offsets
    in_volume = ((cells >= 0) & (cells < sizes)).all(-1)
    k, v, u = cells.clamp_min(0).minimum(sizes - 1).unbind(-1)
    near = probability.flatten(-3).gather(-1, (k * sizes[1] + v) * sizes[2] + u) * in_volume
    return (near[..., None] * cells).sum(-2) / near.sum(-1, keepdim=True)
