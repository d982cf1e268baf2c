"""A regression small enough to train in a second, as a module for tests and as a stage for their subprocesses.

The environment variable `TINY_SIGNAL=NUMBER@COUNT` sends a signal to the whole process group in that micro-step;
`TINY_FAILURE=killed@COUNT` kills the second process of a launch alone there, `TINY_FAILURE=raised@COUNT` raises an
error in it, if the launch has not been restarted. With `TINY_APART` each process has a folder of its own, as on
machines without a disk that they share.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from vidpara.cli import UserError, dump, main
from vidpara.config import LossConfig, OptimizerConfig, TrainerConfig
from vidpara.training.evaluation import Evaluator
from vidpara.training.optimizer import ParamGroup
from vidpara.training.processes import launched
from vidpara.training.trainer import train


class Inputs(NamedTuple):
    x: Tensor


class Sample(NamedTuple):
    inputs: Inputs
    y: Tensor


class Points(Dataset):
    """Deterministic points; `jitter` adds noise from the global generator, as an augmentation does."""

    def __init__(self, length: int, jitter: float = 0.0) -> None:
        self.length, self.jitter = length, jitter

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Sample:
        x = torch.randn(4, generator=torch.Generator().manual_seed(index))
        return Sample(Inputs(x + self.jitter * torch.randn(4)), x.sum(0, keepdim=True))


class Model(nn.Module):
    """Two losses, noise inside the model, a buffer, and the signal of `TINY_SIGNAL`."""

    def __init__(self, noise: float = 0.1) -> None:
        super().__init__()
        self.noise = noise
        self.body = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 4))
        self.head = nn.Linear(4, 1)
        self.register_buffer("updates", torch.zeros((), dtype=torch.long))

    def forward(self, batch: Sample) -> dict[str, Tensor]:
        number, _, count = os.environ.get("TINY_SIGNAL", "0@0").partition("@")
        if self.training:
            self.updates += 1
            if self.updates == int(count):
                os.killpg(0, int(number))
            fail_once(int(self.updates))
        x = batch.inputs.x
        hidden = self.body(x + self.noise * torch.randn_like(x))
        return {
            "video": (hidden - x).square().mean(),
            "volume": (self.head(hidden) - batch.y).square().mean(),
        }


def fail_once(update: int) -> None:
    """What `TINY_FAILURE` asks for."""
    kind, _, count = os.environ.get("TINY_FAILURE", "none@0").partition("@")
    lives, rank = (os.environ.get(name, "0") for name in ("TORCHELASTIC_RESTART_COUNT", "RANK"))
    if (update, rank, lives) == (int(count), "1", "0"):
        if kind == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        raise UserError("the second process has had enough")


@dataclass(frozen=True)
class TinyConfig:
    """What a stage's configuration looks like."""

    run: Path = Path("run")
    noise: float = 0.1
    jitter: float = 0.0
    trainer: TrainerConfig = field(
        default_factory=lambda: TrainerConfig(
            steps=30, batch_size=4, ema=0.9, log_every=5, validate_every=10, checkpoint_every=10, wandb="disabled",
            precision="no",
        )
    )  # fmt: skip
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(kind="muon", lr=1e-2, warmup=5)
    )
    loss: LossConfig = field(default_factory=LossConfig)

    def having(self, **changes: Any) -> TinyConfig:
        """The same with other trainer settings."""
        return replace(self, trainer=replace(self.trainer, **changes))


def fit(
    config: TinyConfig,
    model: nn.Module | None = None,
    evaluators: Sequence[Evaluator] = (),
    **changes: Any,
) -> dict[str, Tensor]:
    """Train and return the final weights."""
    torch.manual_seed(0)
    model = model or Model(config.noise)
    settings: dict[str, Any] = {
        "config": config.trainer, "optimizer": config.optimizer, "weights": config.loss,
        "groups": [ParamGroup("all", list(model.parameters()), config.optimizer.lr, hidden=True)], "run": config.run,
        "resolved": dump(config), "argv": [], "evaluators": evaluators,
        "layers": [part for part in model.modules() if isinstance(part, nn.Linear)],
    }  # fmt: skip
    trained = train(model, Points(21, config.jitter), Points(6), **(settings | changes))
    return {name: value.clone() for name, value in trained.state_dict().items()}


def numbers(model: nn.Module, step: int) -> Iterator[tuple[str, float | Path]]:
    """An evaluator: the first weight, which tells whether it saw the averaged weights."""
    yield "first_weight", float(next(model.parameters()).flatten()[0])


@launched()
def stage(config: TinyConfig, argv: list[str]) -> None:
    if os.environ.get("TINY_APART"):
        config = replace(config, run=config.run / os.environ["RANK"])
    fit(config)
    if config.trainer.wandb == "disabled":
        assert "wandb" not in sys.modules, "a run without W&B must not import it"


if __name__ == "__main__":
    main(TinyConfig, stage)
