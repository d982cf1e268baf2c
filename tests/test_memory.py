"""The plan of a training's memory, against the numbers of real ones."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import UNetSpatioTemporalConditionModel
from torch.utils.data import default_collate

from tests.test_golden import sample
from vidpara import memory
from vidpara.build import build_unet, shaped_autoencoder
from vidpara.build_policy import build_policy
from vidpara.cli import UserError, load
from vidpara.config import TrainPolicyConfig, TrainVideoConfig
from vidpara.models import pretrained, published
from vidpara.models.activations import activations
from vidpara.models.autoencoder import Pixels
from vidpara.models.checkpointing import layers
from vidpara.models.svd import VideoModel
from vidpara.training.optimizer import ParamGroup, build_optimizer, optimizer_tensors

FILES = ["configs/policy/para.yaml", "configs/pocket.yaml"]
FLAGS = [
    "--data.size",
    "32",
    "32",
    "--trainer.batch_size",
    "4",
    "--trainer.precision",
    "no",
    "--trainer.steps",
    "1",
]


@pytest.fixture(autouse=True)
def in_the_root(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(Path(__file__).parents[1])


@pytest.mark.parametrize("checkpointing", ["none", "finest", "layers"])
def test_the_planned_activations_are_those_of_a_real_forward(checkpointing: str):
    config = load(TrainPolicyConfig, [*FILES, *FLAGS, "--unet.checkpointing", checkpointing])
    planned = memory.plan(config).ddp
    autoencoder = shaped_autoencoder(config)
    space = memory.Workspace((32, 32), (-1.0, -1.0, 0.0), (1.0, 1.0, 1.0), ((1.0, 0.0, 0.0),) * 3)
    model = build_policy(config, autoencoder, space).train()
    batch = default_collate([sample(i, autoencoder.channels, model.image_encoder.dim) for i in range(4)])
    real = activations(model, lambda: model(batch))
    # A real kernel may copy where a fake one keeps a view: three maps of one pixel, 7 frames and 64 channels here.
    assert 0 <= real.bytes - planned.activations <= 3 * 4 * 7 * 64 * memory.FLOAT
    assert planned.largest_block == real.largest
    assert planned.weights == 4 * sum(p.numel() for p in model.parameters())
    assert planned.gradients == 4 * sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert planned.gradients == planned.average


def test_what_muon_makes_for_the_largest_group_of_equal_shapes_may_be_more_than_the_backward_pass():
    config = load(TrainPolicyConfig, [*FILES, *FLAGS, "--optimizer.kind", "muon"])
    found, adamw = (
        memory.plan(replace(config, optimizer=replace(config.optimizer, kind=kind))).ddp
        for kind in ("muon", "adamw")
    )
    unet = build_unet(config.unet, shaped_autoencoder(config).channels, config.data.clip.frames)
    sizes: dict[tuple[int, ...], int] = {}
    for weight in unet.parameters():
        if weight.ndim > 1 and weight.requires_grad:
            rows, columns = weight.flatten(1).shape
            key = (min(rows, columns), max(rows, columns))
            sizes[key] = sizes.get(key, 0) + weight.numel()
    assert found.update == memory.UPDATE * max(sizes.values()) and adamw.update == 0
    large = found._replace(update=found.activations + found.largest_block + 5)
    assert large.total == found.total + 5


@pytest.mark.parametrize("head", [False, True])
@pytest.mark.parametrize("kind", ["muon", "adamw"])
def test_the_planned_moments_are_those_of_a_real_step(kind: str, head: bool):
    flags = ["--optimizer.kind", kind, "--optimizer.muon_head", str(head)]
    config = load(TrainPolicyConfig, [*FILES, *FLAGS, *flags])
    autoencoder = shaped_autoencoder(config)
    space = memory.Workspace((32, 32), (-1.0, -1.0, 0.0), (1.0, 1.0, 1.0), ((1.0, 0.0, 0.0),) * 3)
    model = build_policy(config, autoencoder, space)
    groups = [
        ParamGroup("backbone", list(model.backbone.parameters()), 1e-3, hidden=True),
        ParamGroup("head", list(model.head.parameters()), 1e-3),
    ]
    optimizer = build_optimizer(model, groups, config.optimizer)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None
    optimizer.step()
    kept = optimizer_tensors(model, optimizer)
    real = sum(value.nbytes for name, value in kept.items() if not name.endswith("/step"))
    assert memory.plan(config).ddp.optimizer == real


def test_the_planned_adapters_are_those_of_peft():
    config = load(
        TrainVideoConfig, ["configs/video/stage_one.yaml", "configs/pocket.yaml", *FLAGS, "--unet.lora", "4"]
    )
    planned = memory.plan(config).ddp
    unet = build_unet(config.unet, 16, config.data.clip.frames)
    model = VideoModel(unet, config.diffusion).train()
    batch = default_collate([sample(i, 16, unet.config.cross_attention_dim) for i in range(4)])
    real = activations(model, lambda: model(batch))
    assert planned.trained == sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert planned.trained < 0.05 * planned.parameters
    assert planned.activations == pytest.approx(real.bytes, rel=1e-3)


def test_sharding_divides_what_is_kept_for_each_weight_and_gathers_layers():
    adamw = ["--optimizer.kind", "adamw", "--unet.layers_per_block", "2"]
    config = load(TrainVideoConfig, ["configs/video/stage_one.yaml", "configs/pocket.yaml", *FLAGS, *adamw])
    whole, kept, shared = memory.plan(config, 4)
    assert shared.optimizer == whole.optimizer // 4
    assert shared.activations == whole.activations
    unet = build_unet(config.unet, 16, config.data.clip.frames)
    sizes = sorted(sum(p.numel() for p in layer.parameters()) for layer in layers(unet))
    outside = whole.parameters - sum(sizes)
    assert shared.gathered >= 4 * (2 * outside + sizes[-1] + sizes[-2])  # weights and gradients of the rest
    assert shared.gathered <= 4 * (2 * outside + 3 * sizes[-1] + sizes[-2])
    assert kept.gathered - shared.gathered == 4 * sum(sizes[:-2])  # ZeRO-2 keeps all layers' weights
    assert kept.optimizer == shared.optimizer
    assert shared.total >= shared.weights + shared.optimizer + shared.average + 4 * whole.parameters
    assert "fsdp2" in memory.report(config, 4)
    muon = replace(config, optimizer=replace(config.optimizer, kind="muon"))
    assert "fsdp2" not in memory.report(muon, 4)  # the trainer refuses it


@pytest.mark.parametrize("variant", ["dinov3_para", "dinov3_regression", "dinov3_image_regression", "act"])
def test_image_policies_are_planned_as_they_are(variant: str):
    files = [f"configs/policy/{variant}.yaml", "configs/pocket.yaml"]
    config = load(TrainPolicyConfig, [*files, *FLAGS])
    planned = memory.plan(config).ddp
    space = memory.Workspace((32, 32), (-1.0, -1.0, 0.0), (1.0, 1.0, 1.0), ((1.0, 0.0, 0.0),) * 3)
    model = build_policy(config, Pixels(), space).train()
    batch = default_collate([sample(i, 3, 1) for i in range(4)])
    batch = batch._replace(latents=torch.rand(4, batch.latents.shape[1], 3, 32, 32))
    real = activations(model, lambda: model(batch))
    assert planned.weights == 4 * sum(p.numel() for p in model.parameters())
    assert planned.activations == pytest.approx(real.bytes, rel=0.05)


def test_a_compiled_training_is_planned_like_an_eager_one():
    config = load(TrainPolicyConfig, [*FILES, *FLAGS, "--unet.compile", "True"])
    assert memory.plan(config) == memory.plan(load(TrainPolicyConfig, [*FILES, *FLAGS]))


@pytest.mark.parametrize(
    ("gpus", "flags", "message"),
    [
        (-2, [], r"--plan -2: give the number of GPUs, at least 1"),
        (1, ["--data.size", "36", "44"], r"images of 36 x 44 .* set --data\.size 32 48"),
        (1, ["--trainer.batch_size", "1"], r"an update has 1 clip, .* set --trainer\.accumulate 2"),
    ],
)
def test_what_cannot_be_trained_is_not_planned(gpus: int, flags: list[str], message: str):
    config = load(TrainPolicyConfig, [*FILES, *FLAGS, *flags])
    with pytest.raises(UserError, match=message):
        memory.report(config, gpus)


def test_the_published_size_is_planned_from_its_configuration_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
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
    size = ["--data.size", "64", "64", "--trainer.batch_size", "2", "--unet.checkpointing", "layers"]
    config = load(TrainPolicyConfig, ["configs/policy/joint.yaml", "configs/full.yaml", *flags, *size])
    found = memory.plan(config).ddp
    assert 1_524.6e6 < found.parameters < 1_625e6  # SVD's UNet, its autoencoder and the head

    def asked(*_: object, **__: object) -> None:
        raise AssertionError("the hub was asked, where a licence may not have been accepted")

    monkeypatch.setattr(pretrained, "hf_hub_download", asked)
    monkeypatch.setattr(published, "hf_hub_download", asked)
    words = ["configs/policy/joint.yaml", "configs/full.yaml", "--image_encoder.kind", "zeros", *size]
    assert memory.plan(load(TrainPolicyConfig, words)).ddp == found
    whole = memory.plan(
        load(TrainPolicyConfig, ["configs/policy/joint.yaml", "configs/full.yaml", *size])
    ).ddp
    assert 600e6 < whole.parameters - found.parameters < 660e6  # CLIP's ViT-H/14, which reads the image
    words = ["configs/policy/dinov3_para.yaml", "configs/full.yaml", *size, "--optimizer.kind", "adamw"]
    assert 21.5e6 < memory.plan(load(TrainPolicyConfig, words)).ddp.parameters < 23e6


def test_an_unknown_image_size_is_one_clear_error():
    config = load(TrainPolicyConfig, [*FILES, "--data.rollouts", "absent.hdf5"])
    with pytest.raises(UserError, match=r"give --data\.size ROWS COLUMNS"):
        memory.plan(config)
