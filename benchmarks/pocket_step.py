"""The pocket size's training step in float32 over the same in bf16, on one thread of a CPU that computes in it.

Both are the trainer's whole step: of `joint.yaml` with `pocket.yaml`, and, as `image`, of `dinov3_para.yaml` with
`pocket_image.yaml`. `own_attention`: the bf16 step with PyTorch's own attention over ours
(`vidpara.training.on_a_cpu`). Guard: in the few steps of a measurement the losses fall, in both precisions by
the same within a tenth.
"""

from __future__ import annotations

import contextlib
import copy
import statistics
import sys
from dataclasses import replace
from typing import Any, NamedTuple
from unittest import mock

import torch
from accelerate.state import AcceleratorState

from benchmarks import policies
from benchmarks.harness import PAIRS, report
from benchmarks.steps import InMemory, seconds_of_steps
from vidpara.build import shaped_autoencoder
from vidpara.build_policy import build_policy
from vidpara.cli import load
from vidpara.config import TrainPolicyConfig
from vidpara.policy import Policy
from vidpara.training import trainer
from vidpara.training.precision import precision_of
from vidpara.types import Batch

VIDEO = ("configs/policy/joint.yaml", "configs/pocket.yaml")
IMAGE = ("configs/policy/dinov3_para.yaml", "configs/pocket_image.yaml")
STEPS = 4
FLAGS = (
    "--trainer.log_every", "1", "--trainer.validate_every", "0", "--trainer.checkpoint_every", "0", "--trainer.ema",
    "0", "--trainer.wandb", "disabled", "--trainer.steps", str(STEPS + 1),
)  # fmt: skip
FALLEN, SAME = 0.99, 0.1


class Trained(NamedTuple):
    """The seconds of a step, and the loss afterwards."""

    seconds: float
    loss: float


class Trainee:
    """A policy of these files and one batch, of which every training begins anew."""

    def __init__(self, *files: str) -> None:
        self.config = load(TrainPolicyConfig, [*files, *FLAGS])
        torch.manual_seed(0)
        self.policy = build_policy(self.config, shaped_autoencoder(self.config), policies.SPACE).train()
        size = self.config.trainer.batch_size
        self.batch: Batch = policies.batch(self.config, size)
        if self.config.policy.kind == "image":
            images = torch.rand(size, 1, 3, policies.SIZE, policies.SIZE) * 2 - 1
            self.batch = self.batch._replace(latents=images)
        self.data = InMemory(self.batch, size)

    def train(self, precision: str, own_attention: bool = False) -> Trained:
        AcceleratorState._reset_state()  # otherwise a process has one precision, and so has a model
        trained = copy.deepcopy(self.policy)
        chosen = replace(self.config.trainer, precision=precision)
        plain = mock.patch.object(trainer, "fast_attention", lambda *_: contextlib.nullcontext())
        with plain if own_attention else contextlib.nullcontext():
            groups = policies.groups(trained, self.config)
            spent = seconds_of_steps(
                trained, self.data, chosen, self.config.optimizer, self.config.loss, groups
            )
        return Trained(statistics.median(spent), self.loss(trained))

    def loss(self, policy: Policy) -> float:
        torch.manual_seed(0)
        with torch.no_grad():
            return float(sum(loss.float() for loss in policy(self.batch).values()))


class Compared(NamedTuple):
    whole: list[float]
    half: list[float]
    own_attention: float
    fallen: float
    """The loss after the steps over that before, in float32."""
    differ: float
    """Of both precisions' losses after the steps, over how far they fell."""

    @property
    def ratio(self) -> float:
        return median_ratio(self.whole, self.half)

    @property
    def guard(self) -> bool:
        return self.fallen < FALLEN and self.differ <= SAME

    @property
    def said(self) -> dict[str, Any]:
        return {"own_attention": self.own_attention, "fallen": self.fallen, "losses_differ": self.differ}


def compare(*files: str) -> Compared:
    trainee = Trainee(*files)
    ways = (("no", False), ("bf16", False), ("bf16", True))
    rounds = [[trainee.train(*way) for way in ways] for _ in range(PAIRS + 1)][1:]
    whole, half, own = (list(column) for column in zip(*rounds, strict=True))
    a, b, c = ([each.seconds for each in column] for column in (whole, half, own))
    before = trainee.loss(trainee.policy)
    fallen, differ = whole[0].loss / before, abs(half[0].loss - whole[0].loss) / (before - whole[0].loss)
    return Compared(a, b, round(median_ratio(c, b), 2), round(fallen, 3), round(differ, 4))


def median_ratio(a: list[float], b: list[float]) -> float:
    return statistics.median(x / y for x, y in zip(a, b, strict=True))


if __name__ == "__main__":
    if precision_of(load(TrainPolicyConfig, [*VIDEO]).trainer) != "bf16":
        sys.exit("this processor does not compute in bf16; there is nothing to compare")
    video, image = compare(*VIDEO), compare(*IMAGE)
    report(
        "pocket_step", video.whole, video.half, "s a step of 16 clips", video.guard and image.guard, 1.3,
        **video.said, image={"ratio": round(image.ratio, 2), **image.said},
    )  # fmt: skip
