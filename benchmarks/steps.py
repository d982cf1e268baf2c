"""The time of our training steps, measured from inside the trainer."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import Dataset

from benchmarks import policies
from benchmarks.harness import clock
from vidpara.config import LossConfig, OptimizerConfig, TrainerConfig
from vidpara.training.optimizer import ParamGroup
from vidpara.training.trainer import train
from vidpara.types import Batch


class InMemory(Dataset[Batch]):
    """The clips of a batch, one by one."""

    def __init__(self, batch: Batch, size: int) -> None:
        self.items = [policies.part(batch, i) for i in range(size)]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Batch:
        return self.items[index]


def seconds_of_steps(
    model: nn.Module,
    data: InMemory,
    config: TrainerConfig,
    optimizer: OptimizerConfig,
    weights: LossConfig | Mapping[str, float],
    groups: Sequence[ParamGroup],
) -> list[float]:
    """Time from one forward of the trainer to the next, for all steps but the last."""
    stamps: list[float] = []
    forward = model.forward

    def stamped(batch: Batch) -> dict[str, torch.Tensor]:
        if model.training:
            stamps.append(clock())
        return forward(batch)

    model.forward = stamped
    with tempfile.TemporaryDirectory() as folder:
        train(
            model, data, data, config=config, optimizer=optimizer, weights=weights, groups=groups, run=Path(folder),
            resolved="", argv=[],
        )  # fmt: skip
    model.forward = forward
    model.train()
    return [after - before for before, after in itertools.pairwise(stamps)]
