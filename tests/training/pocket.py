"""Stage two's policy and its evaluators on clips of noise, as a stage that tests launch in several processes.

It trains as the launch file says, and then once more from the same weights into `run/whole`, without dividing them: a
launch file's request is only good for one training.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch.utils.data import Dataset

from tests.test_golden import SPACE, sample
from vidpara.build import shaped_autoencoder
from vidpara.build_policy import build_policy
from vidpara.cli import dump, main
from vidpara.config import TrainPolicyConfig
from vidpara.evaluation.evaluators import ActionErrors, ImaginedPlans
from vidpara.policy import VideoPolicy
from vidpara.training.optimizer import ParamGroup
from vidpara.training.processes import launched, processes
from vidpara.training.sampler import Piece, Share
from vidpara.training.sharding import check_launch
from vidpara.training.trainer import train
from vidpara.types import Batch

CLIPS = 10
FLAGS = (
    str(Path(__file__).parents[2] / "configs/policy/joint.yaml"), "--unet.channels", "32", "64",
    "--unet.attention", "False", "True", "--unet.layers_per_block", "1", "--policy.taps", "0", "1",
    "--unet.checkpointing", "layers", "--trainer.steps", "2", "--trainer.log_every", "1",
    "--trainer.validate_every", "1", "--trainer.wandb", "disabled",
)  # fmt: skip


class Noise(Dataset[Batch]):
    """Clips of noise, always the same."""

    def __init__(self, first: int, length: int, config: TrainPolicyConfig) -> None:
        self.first, self.length = first, length
        self.shape = config.autoencoder.channels, config.unet.context_dim

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Batch:
        return sample(self.first + index, *self.shape)


def fit(config: TrainPolicyConfig, argv: list[str]) -> None:
    torch.manual_seed(0)
    policy = build_policy(config, shaped_autoencoder(config), SPACE)
    assert isinstance(policy, VideoPolicy)
    held_out, clips = Noise(100, 5, config), (Piece(0, CLIPS),)
    size = config.trainer.batch_size * config.trainer.accumulate * processes().num_processes
    acting = policy.acting(size)
    train(
        policy, Noise(0, CLIPS, config), held_out, config=config.trainer, optimizer=config.optimizer,
        weights=config.loss, run=config.run, resolved=dump(config), argv=argv, layers=policy.units(),
        shares=[Share(acting, clips), Share(size - acting, clips)],
        groups=[
            ParamGroup("backbone", list(policy.backbone.parameters()), config.optimizer.of_backbone),
            ParamGroup("head", list(policy.head.parameters()), config.optimizer.lr),
        ],
        evaluators=[ActionErrors(held_out), ImaginedPlans(held_out, 2, config.run / "vis")],
    )  # fmt: skip


@launched()
def stage(config: TrainPolicyConfig, argv: list[str]) -> None:
    check_launch(config.trainer, config.optimizer)
    fit(config, argv)
    fit(replace(config, run=config.run / "whole"), argv)


if __name__ == "__main__":
    main(TrainPolicyConfig, stage)
