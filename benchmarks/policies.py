"""A small policy and a batch of noise for it, for benchmarks of its step and its look.

The UNet is wider than at pocket size, so that the rest has a share more like that at full size, and the optimiser is
full size's AdamW.
"""

from __future__ import annotations

import torch

from vidpara.build import shaped_autoencoder
from vidpara.build_policy import build_policy
from vidpara.cli import load
from vidpara.config import TrainPolicyConfig
from vidpara.policy import Policy, VideoPolicy
from vidpara.training.optimizer import ParamGroup
from vidpara.types import Actions, Batch, Camera, Observation, RobotState, Workspace

SIZE = 128
WIDER = (
    "--unet.channels", "96", "192", "192", "--trainer.batch_size", "4", "--optimizer.kind", "adamw",
    "--trainer.precision", "no", "--trainer.wandb", "disabled",
)  # fmt: skip
SPACE = Workspace(
    (SIZE, SIZE), (-0.4, -0.4, 0.9), (0.4, 0.4, 1.3), ((1.0, 0.0, 0.0), (0.0, -1.0, 0.0), (0.0, 0.0, -1.0))
)
LENS = torch.tensor([[154.5, 0.0, 64.0], [0.0, 154.5, 64.0], [0.0, 0.0, 1.0]])
POSE = torch.tensor([[0.0, 0.63, -0.78, 0.66], [1.0, 0, 0, 0], [0, -0.78, -0.63, 1.61], [0, 0, 0, 1.0]])


def settings(*flags: str) -> TrainPolicyConfig:
    return load(TrainPolicyConfig, ["configs/policy/joint.yaml", "configs/pocket.yaml", *WIDER, *flags])


def policy(config: TrainPolicyConfig) -> VideoPolicy:
    torch.manual_seed(0)
    made = build_policy(config, shaped_autoencoder(config), SPACE)
    assert isinstance(made, VideoPolicy)
    return made


def groups(policy: Policy, config: TrainPolicyConfig) -> list[ParamGroup]:
    """What stage two trains, each part at its learning rate."""
    return [
        ParamGroup("backbone", list(policy.backbone.parameters()), config.optimizer.of_backbone, hidden=True),
        ParamGroup("head", list(policy.head.parameters()), config.optimizer.lr),
    ]


def batch(config: TrainPolicyConfig, size: int) -> Batch:
    frames, side = config.data.clip.frames, SIZE // config.autoencoder.patch
    steps = frames - 1
    position = torch.rand(size, steps, 3) * 0.4 + torch.tensor([-0.2, -0.2, 0.9])
    return Batch(
        latents=torch.randn(size, frames, config.autoencoder.channels, side, side),
        context=torch.zeros(size, 1, config.unet.context_dim),
        camera=Camera(LENS.repeat(size, 1, 1), POSE.repeat(size, 1, 1)),
        state=RobotState(position[:, 0], torch.full((size,), 0.04)),
        actions=Actions(
            pixel=torch.rand(size, steps, 2) * SIZE,
            height=position[..., 2],
            position=position,
            rotation=torch.eye(3).repeat(size, steps, 1, 1),
            gripper=torch.rand(size, steps).round(),
            valid=torch.ones(size, steps, dtype=torch.bool),
            has_rotation=torch.ones(size, steps, dtype=torch.bool),
        ),
    )


def observation() -> Observation:
    image = (torch.rand(1, SIZE, SIZE, 3) * 255).byte()
    return Observation(
        image,
        Camera(LENS[None], POSE[None]),
        RobotState(torch.tensor([[0.0, 0.0, 1.1]]), torch.tensor([0.04])),
    )


def part(batch: Batch, where: int | slice) -> Batch:
    """One unbatched clip of a batch, or a piece of it."""

    def pick(values):
        if isinstance(values, torch.Tensor):
            return values[where]
        return type(values)(*(pick(value) for value in values))

    return pick(batch)
