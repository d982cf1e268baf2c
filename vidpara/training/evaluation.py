"""What happens on the evaluation schedule: the validation losses, and the caller's evaluators."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import torch
from accelerate import Accelerator
from accelerate.utils import send_to_device
from torch import Tensor, nn
from torch.utils.data import Dataset

from vidpara.config import TrainerConfig
from vidpara.training.sampler import seed_validation, validation_loader
from vidpara.training.weighting import LossWeights

Evaluator = Callable[[nn.Module, int], Iterator[tuple[str, float | Path]]]
"""Called as `evaluator(model, step)` on rank 0, with the averaged weights in `model`, in eval mode and without
gradients; yields the names of numbers, pictures and videos with their values or files."""


@torch.no_grad()
def validation_metrics(
    model: nn.Module, dataset: Dataset, weights: LossWeights, config: TrainerConfig, accelerator: Accelerator
) -> dict[str, float]:
    """`val/NAME_loss`, the mean of each loss over the samples, and `val/loss`, their plain weighted sum.

    An empty dataset gives nothing. The random state is fixed per batch, so two validations of the same weights are
    equal. `model` is the bare module: DDP's would make the processes wait for each other, and they may have different
    numbers of batches.
    """
    batches, loader = validation_loader(
        dataset, config, rank=accelerator.process_index, ranks=accelerator.num_processes,
        pin=accelerator.device.type == "cuda",
    )  # fmt: skip
    total = torch.zeros(len(weights.names) + 1, device=accelerator.device)
    for draws, batch in zip(batches, loader, strict=True):
        seed_validation(config, draws[0].index)
        losses = model(send_to_device(batch, accelerator.device, non_blocking=True))
        weights.bind(tuple(losses), accelerator.device)
        values = torch.stack([loss.float() for loss in losses.values()])
        total += torch.cat([values, values.new_ones(1)]) * len(draws)
    total = cast(Tensor, accelerator.reduce(total, "sum"))
    *sums, count = total.tolist()
    if not count:
        return {}
    means = {name: value / count for name, value in zip(weights.names, sums, strict=True)}
    return {"val/loss": weights.plain(means), **{f"val/{name}_loss": value for name, value in means.items()}}
