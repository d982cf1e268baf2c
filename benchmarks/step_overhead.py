"""Our whole training step (loader, losses, weights, clipping, optimiser, average, log) over the bare UNet and head.

The bare step is forward and backward of the same policy on the same batch. What a step costs beside them goes with the
number of weights: eight of these clips are to this UNet what one clip of 7 x 320 x 576 is to SVD's, some 12,000
operations a weight. Guard: the step's loss is finite and its weights change.
"""

from __future__ import annotations

import statistics

import torch

from benchmarks import policies
from benchmarks.harness import PAIRS, clock, report
from benchmarks.steps import InMemory, seconds_of_steps
from vidpara.policy import VideoPolicy
from vidpara.types import Batch

STEPS = 4


def seconds_bare(policy: VideoPolicy, batch: Batch) -> float:
    """Median time of forward and backward alone."""
    spent = []
    for _ in range(STEPS):
        began = clock()
        torch.stack(list(policy(batch).values())).sum().backward()
        spent.append(clock() - began)
        policy.zero_grad()
    return statistics.median(spent)


if __name__ == "__main__":
    config = policies.settings(
        "--trainer.log_every", "1", "--trainer.validate_every", "0", "--trainer.checkpoint_every", "0",
        "--trainer.steps", str(STEPS + 1), "--trainer.workers", "0", "--trainer.precision", "no",
        "--trainer.batch_size", "8",
    )  # fmt: skip
    size = config.trainer.batch_size
    batch, policy = policies.batch(config, size), policies.policy(config).train()
    data, before = InMemory(batch, size), next(policy.head.parameters()).detach().clone()
    groups = policies.groups(policy, config)
    whole, bare = [], []
    for round_ in range(PAIRS + 1):
        ours = seconds_of_steps(policy, data, config.trainer, config.optimizer, config.loss, groups)
        pair = statistics.median(ours), seconds_bare(policy, batch)
        if round_:
            whole.append(pair[0])
            bare.append(pair[1])
    changed = not torch.equal(before, next(policy.head.parameters()))
    report("step_overhead", whole, bare, "s a step", changed, 1.05, at_least=False)
