"""Muon: momentum whose matrices are orthogonalised before each update (Jordan et al. 2024), beside AdamW.

torch.optim.Muon takes two-dimensional weights only; most of a video UNet's weights are convolution filters.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
        if not parameters:
            return
        gradients = [parameter.grad for parameter in parameters]
        momenta = [self._momentum(parameter) for parameter in parameters]
        torch._foreach_lerp_(momenta, gradients, 1 - MOMENTUM)
        ahead = torch._foreach_lerp(gradients, momenta, MOMENTUM)  # Nesterov
        torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        for indices, updates in by_shape(
            ahead
        ):  # one after the other: all of them at once would be the model again
            torch._foreach_add_([parameters[i] for i in indices], updates, alpha=-group["lr"])

    def _momentum(self, parameter: Tensor) -> Tensor:
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        return state["momentum"]


def by_shape(updates: Sequence[Tensor]) -> Iterator[tuple[list[int], list[Tensor]]]:
    """Each update as its nearest semi-orthogonal matrix, scaled to `ADAM_RMS`: indices of equal shapes, and what they
    become, which goes in one batch.
    """
    same_shape: dict[tuple[int, int], list[int]] = defaultdict(list)
    matrices = [update.flatten(1) for update in updates]
    for index, matrix in enumerate(matrices):
        same_shape[min(matrix.shape), max(matrix.shape)].append(index)
    for (_, long), indices in same_shape.items():
        flat = [matrices[i] if matrices[i].shape[1] == long else matrices[i].mT for i in indices]
        wide = newton_schulz(torch.stack(flat)).mul_(ADAM_RMS * long**0.5)
        found = [
            (each if matrices[i].shape[1] == long else each.mT).reshape(updates[i].shape)
            for i, each in zip(indices, wide, strict=True)
        ]
        yield indices, found


def orthogonalized(updates: Sequence[Tensor]) -> list[Tensor]:
    """All of `by_shape`, in the order of the updates."""
    found = dict(pair for indices, those in by_shape(updates) for pair in zip(indices, those, strict=True))
    return [found[index] for index in range(len(updates))]


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
