"""The losses of the first updates, kept in git: a refactor must not move them, a change of the numbers must say so.

`python tests/test_golden.py` writes them anew.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch.utils.data import default_collate

from vidpara.build_policy import build_policy
from vidpara.cli import load
from vidpara.config import AutoencoderConfig, TrainPolicyConfig
from vidpara.geometry.camera import project
from vidpara.models.autoencoder import PatchPCA
from vidpara.training.optimizer import ParamGroup, build_optimizer, set_lr
from vidpara.types import Actions, Batch, Camera, RobotState, Workspace

ROOT = Path(__file__).parents[1]
GOLDEN = Path(__file__).parent / "golden"
VARIANTS = ("para", "global_regression")
STEPS, SAMPLES, SIZE = 4, 4, 32
SPACE = Workspace(
    (SIZE, SIZE), (-0.3, -0.3, 0.9), (0.3, 0.3, 1.3), ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
)


def sample(index: int, channels: int, context: int) -> Batch:
    """A clip of noise, seen by a camera that looks straight down, with a straight path as its action."""
    generator = torch.Generator().manual_seed(index)
    camera = Camera(
        torch.tensor([[40.0, 0, SIZE / 2], [0, 40.0, SIZE / 2], [0, 0, 1]]),
        torch.tensor([[1.0, 0, 0, 0], [0, -1, 0, 0], [0, 0, -1, 2.6], [0, 0, 0, 1]]),
    )
    ends = torch.rand(2, 3, generator=generator) * torch.tensor([0.5, 0.5, 0.35]) + torch.tensor(
        [-0.25, -0.25, 0.92]
    )
    path = torch.lerp(ends[0], ends[1], torch.linspace(0, 1, 7)[:, None])
    lenses = Camera(camera.intrinsics[None], camera.world_from_camera[None])
    actions = Actions(
        pixel=project(path, lenses)[1:],
        height=path[1:, 2],
        position=path[1:],
        rotation=torch.eye(3).expand(6, 3, 3),
        gripper=(torch.arange(6) > 2).float(),
        valid=torch.ones(6, dtype=torch.bool),
        has_rotation=torch.ones(6, dtype=torch.bool),
    )
    latents = torch.randn(7, channels, SIZE // 8, SIZE // 8, generator=generator)
    return Batch(latents, torch.zeros(1, context), camera, RobotState(path[0], torch.tensor(0.04)), actions)


def losses(variant: str) -> dict[str, list[float]]:
    """Named losses before each of the first updates, with the shipped pocket settings."""
    files = [str(ROOT / f"configs/policy/{variant}.yaml"), str(ROOT / "configs/pocket.yaml")]
    config = load(TrainPolicyConfig, files)
    frames = torch.rand(64, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0)) * 2 - 1
    autoencoder = PatchPCA.fit(frames, AutoencoderConfig("patch_pca", None, 8, 16))
    torch.manual_seed(0)
    policy = build_policy(config, autoencoder, SPACE)
    groups = [
        ParamGroup("backbone", list(policy.backbone.parameters()), config.optimizer.of_backbone, hidden=True),
        ParamGroup("head", list(policy.head.parameters()), config.optimizer.lr),
    ]
    optimizer = build_optimizer(policy, groups, config.optimizer)
    batch = default_collate([sample(index, 16, config.unet.context_dim) for index in range(SAMPLES)])
    found: dict[str, list[float]] = {}
    for step in range(STEPS):
        set_lr(optimizer, config.optimizer.warmup + step, 1000, config.optimizer)
        named = policy(batch)
        for name, value in named.items():
            found.setdefault(name, []).append(round(float(value.detach()), 5))
        optimizer.zero_grad()
        torch.stack(list(named.values())).sum().backward()
        optimizer.step()
    return found


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_first_losses_are_the_golden_ones(variant: str):
    golden = json.loads((GOLDEN / f"{variant}.json").read_text())
    found = losses(variant)
    assert found.keys() == golden.keys()
    for name, values in golden.items():
        assert found[name] == pytest.approx(values, rel=1e-2), name  # threads and processors differ


if __name__ == "__main__":
    for each in VARIANTS:
        (GOLDEN / f"{each}.json").write_text(json.dumps(losses(each), indent=1) + "\n")
