"""Our whole training step (loader, losses, weights, clipping, optimiser, average, log) over the bare UNet and head.

The bare step is forward and backward of the same policy on the same batch. Guard: the step's loss is finite and its
weights change.
"""

from __future__ import annotations

import itertools
import statistics
import tempfile
import time
from pathlib import Path

import torch
from torch.utils.data import Dataset

from benchmarks import policies
from benchmarks.harness import PAIRS, report
from vidpara.cli import dump
from vidpara.config import TrainPolicyConfig
from vidpara.policy import VideoPolicy
from vidpara.training.optimizer import ParamGroup
from vidpara.training.trainer import train
from vidpara.types import Batch

STEPS = 4


class Noise(Dataset[Batch]):
    """Clips that are already in memory."""

    def __init__(self, batch: Batch, size: int) -> None:
        self.items = [policies.item(batch, i) for i in range(size)]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Batch:
        return self.items[index]


def seconds_of_steps(policy: VideoPolicy, config: TrainPolicyConfig, data: Noise) -> float:
    """Median time from one forward of the trainer to the next."""
    stamps: list[float] = []
    forward = policy.forward

    def stamped(batch: Batch) -> dict[str, torch.Tensor]:
        stamps.append(time.perf_counter())
        return forward(batch)

    policy.forward = stamped
    with tempfile.TemporaryDirectory() as folder:
        train(
            policy, data, data, config=config.trainer, optimizer=config.optimizer, weights=config.loss,
            groups=[
                ParamGroup("backbone", list(policy.backbone.parameters()), config.optimizer.of_backbone, hidden=True),
                ParamGroup("head", list(policy.head.parameters()), config.optimizer.lr),
            ],
            run=Path(folder), resolved=dump(config), argv=[],
        )  # fmt: skip
    policy.forward = forward
    policy.train()
    return statistics.median(after - before for before, after in itertools.pairwise(stamps[: STEPS + 1]))


def seconds_bare(policy: VideoPolicy, batch: Batch) -> float:
    """Median time of forward and backward alone."""
    spent = []
    for _ in range(STEPS):
        began = time.perf_counter()
        torch.stack(list(policy(batch).values())).sum().backward()
        spent.append(time.perf_counter() - began)
        policy.zero_grad()
    return statistics.median(spent)


if __name__ == "__main__":
    config = policies.settings(
        "--trainer.log_every", "1", "--trainer.validate_every", "0", "--trainer.checkpoint_every", "0",
        "--trainer.steps", str(STEPS + 1), "--trainer.workers", "0",
    )  # fmt: skip
    size = config.trainer.batch_size
    batch, policy = policies.batch(config, size), policies.policy(config).train()
    data, before = Noise(batch, size), next(policy.head.parameters()).detach().clone()
    whole, bare = [], []
    for round_ in range(PAIRS + 1):
        pair = seconds_of_steps(policy, config, data), seconds_bare(policy, batch)
        if round_:
            whole.append(pair[0])
            bare.append(pair[1])
    changed = not torch.equal(before, next(policy.head.parameters()))
    report("step_overhead", whole, bare, "s a step", changed, 1.05, at_least=False)
