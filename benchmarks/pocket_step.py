"""The pocket size's training step in float32 over the same in bf16, on one thread of a CPU that computes in it.

Both are the trainer's whole step, of `joint.yaml` with `pocket.yaml`. `fused_attention`: the bf16 step with PyTorch's
own attention over ours (`vidpara.training.precision`). Guard: the losses of both agree to 2 %, before any step.
"""

from __future__ import annotations

import contextlib
import copy
import statistics
import sys
from dataclasses import replace
from unittest import mock

import torch
from accelerate.state import AcceleratorState

from benchmarks import policies
from benchmarks.harness import PAIRS, report
from benchmarks.steps import InMemory, seconds_of_steps
from vidpara.cli import load
from vidpara.config import TrainPolicyConfig
from vidpara.training import trainer
from vidpara.training.precision import precision_of

STEPS = 4
FILES = ("configs/policy/joint.yaml", "configs/pocket.yaml")
FLAGS = (
    "--trainer.log_every", "1", "--trainer.validate_every", "0", "--trainer.checkpoint_every", "0",
    "--trainer.steps", str(STEPS + 1),
)  # fmt: skip
SAME = 0.02

if __name__ == "__main__":
    torch.set_num_threads(1)
    config = load(TrainPolicyConfig, [*FILES, *FLAGS])
    if precision_of(config.trainer) != "bf16":
        sys.exit("this processor does not compute in bf16; there is nothing to compare")
    batch = policies.batch(config, config.trainer.batch_size)
    data, policy = InMemory(batch, config.trainer.batch_size), policies.policy(config).train()

    def losses(bf16: bool) -> torch.Tensor:
        torch.manual_seed(0)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            return torch.stack([loss.float() for loss in policy(batch).values()])

    def step(precision: str, attention: bool = True) -> float:
        AcceleratorState._reset_state()  # otherwise a process has one precision, and so has a model
        trained = copy.deepcopy(policy)
        chosen = replace(config.trainer, precision=precision)
        plain = mock.patch.object(trainer, "fast_attention", lambda *_: contextlib.nullcontext())
        with contextlib.nullcontext() if attention else plain:
            groups = policies.groups(trained, config)
            spent = seconds_of_steps(trained, data, chosen, config.optimizer, config.loss, groups)
        return statistics.median(spent)

    whole, half = losses(False), losses(True)
    same = bool(((whole - half).abs() <= SAME * whole.abs()).all())
    rounds = [(step("no"), step("bf16"), step("bf16", attention=False)) for _ in range(PAIRS + 1)][1:]
    a, b, fused = (list(column) for column in zip(*rounds, strict=True))
    report(
        "pocket_step", a, b, "s a step of 16 clips", same, 1.3,
        fused_attention=round(statistics.median(x / y for x, y in zip(fused, b, strict=True)), 2),
        losses_differ=round(float(((whole - half).abs() / whole.abs()).max()), 4),
    )  # fmt: skip
