"""Muon: momentum whose matrices are orthogonalised before each update (Jordan et al. 2024), beside AdamW.

torch.optim.Muon takes two-dimensional weights only; most of a video UNet's weights are convolution filters.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from vidpara.types import Float

MOMENTUM = 0.95
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""Coefficients of the quintic that drives all singular values towards 1."""
ITERATIONS = 5
ADAM_RMS = 0.2
"""Root mean square of a typical AdamW update: with it both kinds of update share one learning rate (Liu et al. 2025,
'Muon is scalable for LLM training', equation 4)."""


class Muon(torch.optim.AdamW):
    """AdamW, except for parameter groups with `orthogonal`: their matrices and filters follow Muon.

    A filter of shape `out in ...` counts as a matrix of `out` rows. Not for sharded parameters (FSDP, ZeRO): a shard of
    a matrix has other singular values than the matrix.
    """

    def __init__(
        self,
        groups: Iterable[Mapping[str, Any]],
        lr: float,
        betas: tuple[float, float],
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(
            [dict(group) for group in groups], lr, betas, weight_decay=weight_decay, foreach=True
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One update of every parameter that has a gradient."""
        groups = self.param_groups
        self.param_groups = [group for group in groups if not group.get("orthogonal")]
        try:
            loss = super().step(closure)
        finally:
            self.param_groups = groups
        for group in groups:
            if group.get("orthogonal"):
                self._step_orthogonal(group)
        return loss

    def _step_orthogonal(self, group: Mapping[str, Any]) -> None:
        parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
        # not all at once: what is made for the update would be the model again
        for alike in by_shape(parameters):
            gradients = [parameter.grad for parameter in alike]
            momenta = [self._momentum(parameter) for parameter in alike]
            torch._foreach_lerp_(momenta, gradients, 1 - MOMENTUM)
            ahead = torch._foreach_lerp(gradients, momenta, MOMENTUM)  # Nesterov
            torch._foreach_mul_(alike, 1 - group["lr"] * group["weight_decay"])
            torch._foreach_add_(alike, orthogonalized(ahead), alpha=-group["lr"])

    def _momentum(self, parameter: Tensor) -> Tensor:
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        return state["momentum"]


def by_shape(tensors: Sequence[Tensor]) -> list[list[Tensor]]:
    """Those that are matrices of equal shape, whichever way round, together."""
    found: dict[tuple[int, ...], list[Tensor]] = defaultdict(list)
    for tensor in tensors:
        rows = tensor.shape[0]
        found[tuple(sorted((rows, tensor.numel() // rows)))].append(tensor)
    return list(found.values())


def orthogonalized(updates: Sequence[Tensor]) -> list[Tensor]:
    """Each update, matrices of one shape, as its nearest semi-orthogonal matrix, scaled to `ADAM_RMS`, in one batch."""
    matrices = [update.flatten(1) for update in updates]
    long = max(matrices[0].shape)
    flat = [matrix if matrix.shape[1] == long else matrix.mT for matrix in matrices]
    wide = newton_schulz(torch.stack(flat)).mul_(ADAM_RMS * long**0.5)
    return [
        (each if matrix.shape[1] == long else each.mT).reshape(update.shape)
        for each, matrix, update in zip(wide, matrices, updates, strict=True)
    ]


def newton_schulz(matrices: Float[Tensor, "n rows columns"]) -> Float[Tensor, "n rows columns"]:
    """Nearly semi-orthogonal matrices (singular values between 0.7 and 1.2) with the same singular vectors.

    `rows` ≤ `columns`. On a GPU in bfloat16, which the iteration stands.
    """
    a, b, c = NEWTON_SCHULZ
    x = matrices.bfloat16() if matrices.is_cuda else matrices.float()
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp_min(1e-7)
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = a * x + torch.baddbmm(gram, gram, gram, beta=b, alpha=c) @ x
    return x.to(matrices.dtype)
