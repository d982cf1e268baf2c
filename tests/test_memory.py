"""The plan of a training's memory, against the numbers of real ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from diffusers import UNetSpatioTemporalConditionModel
from torch.utils.data import default_collate

from tests.test_golden import sample
from vidpara import memory
from vidpara.build import build_policy, build_unet
from vidpara.cli import UserError, load
from vidpara.config import TrainPolicyConfig, TrainVideoConfig
from vidpara.models.svd import VideoModel

FILES = ["configs/policy/para.yaml", "configs/pocket.yaml"]
FLAGS = [
    "--data.size",
    "32",
    "32",
    "--trainer.batch_size",
    "2",
    "--trainer.precision",
    "no",
    "--trainer.steps",
    "1",
]


@pytest.fixture(autouse=True)
def in_the_root(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(Path(__file__).parents[1])


@pytest.mark.parametrize("checkpointing", ["False", "True"])
def test_the_planned_activations_are_those_of_a_real_forward(checkpointing: str):
    config = load(TrainPolicyConfig, [*FILES, *FLAGS, "--unet.checkpointing", checkpointing])
    planned = memory.plan(config)
    autoencoder = memory.shaped_autoencoder(config)
    space = memory.Workspace((32, 32), (-1.0, -1.0, 0.0), (1.0, 1.0, 1.0), ((1.0, 0.0, 0.0),) * 3)
    model = build_policy(config, autoencoder, space).train()
    batch = default_collate([sample(i, autoencoder.channels, model.image_encoder.dim) for i in range(2)])
    real = memory.activations(model, lambda: model(batch))
    # A real kernel may copy where a fake one keeps a view: three maps of one pixel here.
    assert planned.activations == pytest.approx(real.bytes, rel=1e-3)
    assert planned.largest_block == pytest.approx(real.largest, rel=1e-3)
    assert planned.weights == 4 * sum(p.numel() for p in model.parameters())
    assert planned.gradients == 4 * sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert planned.gradients == planned.average == planned.optimizer  # Muon has one moment


def test_the_planned_adapters_are_those_of_peft():
    pytest.importorskip("peft")
    config = load(
        TrainVideoConfig, ["configs/video/stage_one.yaml", "configs/pocket.yaml", *FLAGS, "--unet.lora", "4"]
    )
    planned = memory.plan(config)
    unet = build_unet(config.unet, 16, config.data.clip.frames)
    model = VideoModel(unet, config.diffusion).train()
    batch = default_collate([sample(i, 16, unet.config.cross_attention_dim) for i in range(2)])
    real = memory.activations(model, lambda: model(batch))
    assert planned.trained == sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert planned.trained < 0.05 * planned.parameters
    assert planned.activations == pytest.approx(real.bytes, rel=1e-3)


def test_sharding_divides_what_is_kept_for_each_weight():
    config = load(TrainVideoConfig, ["configs/video/stage_one.yaml", "configs/pocket.yaml", *FLAGS])
    whole = memory.plan(config)
    shared = whole.divided(4)
    assert shared.optimizer == whole.optimizer // 4
    assert shared.activations == whole.activations
    assert "fsdp2" in memory.report(config, 4)


def test_the_published_size_is_planned_from_its_configuration_alone(tmp_path: Path):
    with torch.device("meta"):
        unet = UNetSpatioTemporalConditionModel(sample_size=96, num_attention_heads=(5, 10, 20, 20))
    unet.save_config(tmp_path / "unet")
    (tmp_path / "vae").mkdir()
    vae = {
        "_class_name": "AutoencoderKLTemporalDecoder", "block_out_channels": [128, 256, 512, 512],
        "down_block_types": ["DownEncoderBlock2D"] * 4, "layers_per_block": 2, "latent_channels": 4,
    }  # fmt: skip
    (tmp_path / "vae/config.json").write_text(json.dumps(vae))
    flags = [
        "--unet.weights",
        str(tmp_path),
        "--autoencoder.weights",
        str(tmp_path),
        "--image_encoder.kind",
        "zeros",
    ]
    size = ["--data.size", "64", "64", "--trainer.batch_size", "1", "--unet.checkpointing", "True"]
    config = load(TrainPolicyConfig, ["configs/policy/joint.yaml", "configs/full.yaml", *flags, *size])
    found = memory.plan(config)
    assert 1_524.6e6 < found.parameters < 1_625e6  # SVD's UNet, its autoencoder and the head


def test_an_unknown_image_size_is_one_clear_error():
    config = load(TrainPolicyConfig, [*FILES, "--data.rollouts", "absent.hdf5"])
    with pytest.raises(UserError, match=r"give --data\.size ROWS COLUMNS"):
        memory.plan(config)
