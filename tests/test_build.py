"""Models from folders in diffusers' layout."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLTemporalDecoder

from vidpara.build import build_autoencoder, build_image_encoder, build_unet, build_vit
from vidpara.build_policy import as_told, build_head, build_policy, build_reader, from_video_run
from vidpara.cli import UserError, dump
from vidpara.config import (
    ACTConfig,
    AutoencoderConfig,
    DataConfig,
    HeadConfig,
    ImageEncoderConfig,
    PolicyConfig,
    TrainPolicyConfig,
    UNetConfig,
    ViTConfig,
)
from vidpara.models.autoencoder import PatchPCA
from vidpara.models.dinov3 import random_vit
from vidpara.models.svd import random_unet
from vidpara.run_folder import as_begun, keep_fitted, load_policy, save_policy
from vidpara.types import Observation, Workspace

SMALL = UNetConfig(channels=(32, 64), attention=(False, True), context_dim=16)
SPACE = Workspace(
    (16, 16), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
)


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory) -> Path:
    """A pipeline folder, as Stable Video Diffusion is published, at small size."""
    folder = tmp_path_factory.mktemp("svd")
    random_unet(SMALL, 4, 7).save_pretrained(folder / "unet")
    AutoencoderKLTemporalDecoder(
        block_out_channels=(32, 32), down_block_types=("DownEncoderBlock2D",) * 2, layers_per_block=1
    ).save_pretrained(folder / "vae")
    return folder


def test_a_pipeline_folder_loads_without_conversion(pipeline):
    autoencoder = build_autoencoder(AutoencoderConfig("svd", str(pipeline)))
    unet = build_unet(UNetConfig(weights=str(pipeline)), autoencoder.channels, 7)
    assert unet.config.block_out_channels == [32, 64] and autoencoder.factor == 2


def test_a_unet_folder_loads_too_and_half_precision_becomes_float32(pipeline, tmp_path):
    random_unet(SMALL, 4, 7).half().save_pretrained(tmp_path)
    assert build_unet(UNetConfig(weights=str(tmp_path)), 4, 7).dtype == torch.float32


def test_an_autoencoder_with_other_channels_is_named(pipeline):
    with pytest.raises(UserError, match="denoises 4 latent channels, the autoencoder gives 16"):
        build_unet(UNetConfig(weights=str(pipeline)), 16, 7)


def test_missing_weights_are_one_clear_line(tmp_path):
    with pytest.raises(UserError, match="cannot load UNetSpatioTemporalConditionModel from"):
        build_unet(UNetConfig(weights=str(tmp_path / "nothing")), 4, 7)
    with pytest.raises(UserError, match=r"needs --autoencoder\.weights"):
        build_autoencoder(AutoencoderConfig("svd"))
    with pytest.raises(UserError, match=r"needs --image_encoder\.weights"):
        build_image_encoder(ImageEncoderConfig("clip"), 16)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (PolicyConfig(sigma=10.0, future="mean"), "set --policy.future noise"),
        (PolicyConfig(denoising_steps=4), "train with a lower --policy.sigma"),
        (PolicyConfig(denoising_steps=0), "at least 1"),
        (PolicyConfig(taps=(5,)), "decoder blocks 0 to 1"),
        (PolicyConfig(taps=(1, 1)), "name one or more of them, each once"),
        (PolicyConfig(taps=()), "name one or more of them, each once"),
        (PolicyConfig(stop_gradient=True, action_fraction=1.0), "take --policy.backbone frozen, or"),
        (PolicyConfig("image", stop_gradient=True), "take --policy.backbone frozen, or"),
        (
            PolicyConfig(taps=(0, 1), head=HeadConfig("act", targets="hard")),
            "policy.head.targets hard is for heads with bins",
        ),
        (
            PolicyConfig(taps=(0, 1), head=HeadConfig("act", act=ACTConfig(width=30, heads=2))),
            "width 30 is not a multiple of 4",
        ),
        (PolicyConfig(backbone="frozen"), "no video loss"),
        (PolicyConfig(action_fraction=1.0), "no video loss"),
        (PolicyConfig("image"), "no video loss"),
    ],
)
def test_a_policy_that_contradicts_itself_is_refused(settings: PolicyConfig, message: str):
    data = DataConfig(unlabelled="no video loss" in message)
    config = TrainPolicyConfig(policy=settings, unet=SMALL, data=data)
    autoencoder = PatchPCA.fit(torch.randn(64, 3, 16, 16), AutoencoderConfig(patch=8, channels=4))
    with pytest.raises(UserError, match=message):
        build_policy(config, autoencoder, SPACE)


def test_adapters_on_a_frozen_backbone_would_learn_nothing():
    settings = TrainPolicyConfig(policy=PolicyConfig(backbone="frozen"), unet=replace(SMALL, lora=4))
    autoencoder = PatchPCA.fit(torch.randn(64, 3, 16, 16), AutoencoderConfig(patch=8, channels=4))
    with pytest.raises(UserError, match=r"unet\.lora 4 on a frozen backbone"):
        build_policy(settings, autoencoder, SPACE)


@pytest.mark.parametrize("backbone", ["train", "frozen"])
def test_a_stopped_gradient_is_possible_where_the_backbone_has_another_or_needs_none(
    backbone: Literal["train", "frozen"],
):
    autoencoder = PatchPCA.fit(torch.randn(64, 3, 16, 16), AutoencoderConfig(patch=8, channels=4))
    settings = PolicyConfig(taps=(0, 1), backbone=backbone, stop_gradient=True)
    build_policy(TrainPolicyConfig(policy=settings, unet=SMALL), autoencoder, SPACE)


def test_an_image_policy_starts_from_no_video_run(tmp_path):
    config = TrainPolicyConfig(policy=PolicyConfig("image"), video_run=tmp_path)
    with pytest.raises(UserError, match=r"policy.kind image has none: leave --video_run out"):
        from_video_run(config)


def test_a_run_with_absolute_positions_is_loaded_with_them_and_has_the_weights_of_one_without(tmp_path):
    config = TrainPolicyConfig(
        policy=PolicyConfig("image", head=HeadConfig("global_regression")),
        vit=ViTConfig(width=32, layers=1, heads=2, absolute_positions=True),
    )
    policy = build_policy(config, build_reader(config), SPACE).eval()
    save_policy(tmp_path, policy, SPACE)
    present = torch.rand(1, 3, 16, 16)
    found = []
    for absolute in (True, False):
        vit = replace(config.vit, absolute_positions=absolute)
        (tmp_path / "config.yaml").write_text(dump(replace(config, vit=vit)))
        found.append(load_policy(tmp_path).read(present).pooled)
    torch.testing.assert_close(found[0], policy.read(present).pooled)
    assert (found[0] - found[1]).abs().max() > 0.01
    with pytest.raises(
        UserError, match=r"denoising_steps 4 is for policies on a video model, .* of kind image"
    ):
        load_policy(tmp_path, denoising_steps=4)


def test_an_observation_may_be_made_of_an_image_that_was_turned_by_a_view():
    image = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    seen = Observation.of(image[::-1, :, ::-1], np.eye(3), np.eye(4), np.zeros(3), 0.04).image
    assert seen.shape == (1, 4, 6, 3) and seen[0, 0, 0].tolist() == image[3, 0, ::-1].tolist()


def test_sizes_that_were_asked_for_and_are_not_those_of_the_weights_are_named(pipeline, tmp_path):
    asked = UNetConfig(weights=str(pipeline), channels=(64, 64))
    with pytest.raises(UserError, match=r"unet.channels is \(64, 64\), but the weights .* have \(32, 64\)"):
        build_unet(asked, 4, 7)
    assert build_unet(replace(asked, channels=(32, 64)), 4, 7).config.block_out_channels == [32, 64]
    random_vit(ViTConfig(width=32, heads=2, layers=1)).save_pretrained(tmp_path)
    with pytest.raises(
        UserError, match=r"vit.width is 64, but the weights .* have 32; .* leave --vit.width out"
    ):
        build_vit(ViTConfig(weights=str(tmp_path), width=64))


@pytest.mark.parametrize(
    ("vit", "match"),
    [
        (ViTConfig(patch=7), r"vit.patch 7 does not divide the image of \(16, 16\) pixels"),
        (ViTConfig(heads=5), "vit.width 96 must be a multiple of 4 x vit.heads 5"),
    ],
)
def test_a_vit_that_cannot_be_is_refused_before_any_frame_is_read(vit: ViTConfig, match: str):
    config = TrainPolicyConfig(policy=PolicyConfig(kind="image"), vit=vit)
    with pytest.raises(UserError, match=match):
        build_policy(config, build_reader(config), SPACE)


@pytest.mark.parametrize(
    ("head", "shift"),
    [
        (HeadConfig(), 4),
        (HeadConfig("global_regression", coordinates="image"), 4),
        (HeadConfig("global_regression"), 0),
        (HeadConfig("act"), 0),
    ],
    ids=["pixel", "image", "world", "act"],
)
def test_only_a_head_that_is_told_the_camera_sees_shifted_images(head, shift, capsys):
    config = TrainPolicyConfig(data=DataConfig(shift=4), policy=PolicyConfig(head=head))
    built = build_head(head, 32, 6, SPACE)
    assert as_told(config, built).data.shift == shift
    said = capsys.readouterr().err
    assert (said == "") == (shift == 4) and ("data.shift 4 is left out" in said) == (shift == 0)
    unshifted = replace(config, data=DataConfig(shift=0))
    assert as_told(unshifted, built).data.shift == 0 and not capsys.readouterr().err


def test_a_run_goes_on_with_the_autoencoder_that_it_began_with(tmp_path):
    """Fitted anew on another processor, or on pictures that have changed, it would give other latents."""
    config = TrainPolicyConfig(run=tmp_path, autoencoder=AutoencoderConfig(patch=4, channels=8))
    pictures = torch.rand(8, 3, 16, 16)
    first = PatchPCA.fit(pictures, config.autoencoder)
    keep_fitted(config, first)
    assert as_begun(config) == config  # no checkpoint: it begins anew
    (tmp_path / "checkpoint-00000002").mkdir()
    (tmp_path / "checkpoint-00000002/state.json").write_text("{}")
    again = build_autoencoder(as_begun(config).autoencoder)
    for name, value in first.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)
    other = PatchPCA.fit(pictures.square(), config.autoencoder)
    keep_fitted(as_begun(config), other)  # what was loaded is not written again
    assert torch.equal(build_autoencoder(as_begun(config).autoencoder).basis, first.basis)
