"""What a published folder says beside its weights, against what we do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import CLIPImageProcessor

from tests.models.test_pretrained import MAKE
from vidpara.build import build_image_encoder, build_video_model, build_vit
from vidpara.cli import UserError
from vidpara.config import DiffusionConfig, ImageEncoderConfig, UNetConfig, ViTConfig
from vidpara.models.autoencoder import PatchPCA
from vidpara.models.published import check_scheduler

SCHEDULER = {
    "_class_name": "EulerDiscreteScheduler", "_diffusers_version": "0.24.0.dev0", "beta_end": 0.012,
    "beta_schedule": "scaled_linear", "beta_start": 0.00085, "clip_sample": False, "interpolation_type": "linear",
    "num_train_timesteps": 1000, "prediction_type": "v_prediction", "set_alpha_to_one": False, "sigma_max": 700.0,
    "sigma_min": 0.002, "skip_prk_steps": True, "steps_offset": 1, "timestep_spacing": "leading",
    "timestep_type": "continuous", "trained_betas": None, "use_karras_sigmas": True,
}  # fmt: skip
"""As stabilityai/stable-video-diffusion-img2vid has it."""


def write(folder: Path, path: str, settings: object) -> str:
    file = folder / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(settings if isinstance(settings, str) else json.dumps(settings))
    return str(folder)


def test_the_published_scheduler_is_ours_and_none_is_fine(tmp_path):
    check_scheduler(str(tmp_path), DiffusionConfig())
    check_scheduler(str(tmp_path / "nothing"), DiffusionConfig())
    check_scheduler(write(tmp_path, "scheduler/scheduler_config.json", SCHEDULER), DiffusionConfig())


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"prediction_type": "epsilon"}, "prediction_type epsilon, vidpara has v_prediction; choose a UNet"),
        ({"timestep_type": "discrete"}, "timestep_type discrete, vidpara has continuous; choose a UNet"),
        ({"sigma_max": 80.0}, r"sigma_max 80\.0, vidpara samples with 700\.0; set --diffusion\.sigma_max 80\.0"),
        ({"sigma_max": None}, r"sigma_max None, vidpara samples with 700\.0; if .* write sigma_max 700\.0 into"),
        ({"sigma_min": 0.02}, r"sigma_min 0\.02, vidpara samples with 0\.002; if .* write sigma_min 0\.002 into"),
        ({"use_karras_sigmas": False}, "use_karras_sigmas False, .* write use_karras_sigmas true into"),
        ({"_class_name": "EDMEulerScheduler"}, "is of EDMEulerScheduler, vidpara has SVD's EulerDiscreteScheduler"),
        ({"use_beta_sigmas": True}, "is no scheduler that diffusers can make"),
    ],
    ids=lambda value: "" if isinstance(value, str) else "-".join(map(str, *value.items())),
)  # fmt: skip
def test_another_scheduler_is_named(changed: dict, message: str, tmp_path):
    weights = write(tmp_path, "scheduler/scheduler_config.json", SCHEDULER | changed)
    with pytest.raises(UserError, match=rf"scheduler/scheduler_config\.json .*{message}"):
        check_scheduler(weights, DiffusionConfig())


def test_a_setting_that_is_left_out_has_the_librarys_default(tmp_path):
    without = {key: value for key, value in SCHEDULER.items() if key != "prediction_type"}
    weights = write(tmp_path, "scheduler/scheduler_config.json", without)
    with pytest.raises(UserError, match="prediction_type epsilon"):
        check_scheduler(weights, DiffusionConfig())


def test_the_remedy_for_another_noise_range_helps(tmp_path):
    weights = write(tmp_path, "scheduler/scheduler_config.json", SCHEDULER | {"sigma_max": 80.0})
    check_scheduler(weights, DiffusionConfig(sigma_max=80.0))


@pytest.mark.parametrize("text", ["{", "[]"])
def test_a_damaged_file_is_named(text: str, tmp_path):
    with pytest.raises(
        UserError, match=r"scheduler_config\.json (is not valid JSON|holds a list).*get it again"
    ):
        check_scheduler(write(tmp_path, "scheduler/scheduler_config.json", text), DiffusionConfig())


def test_a_unet_of_another_diffusion_is_refused_where_the_model_is_built(tmp_path):
    MAKE["unet"]().save_pretrained(tmp_path / "unet")
    patches = PatchPCA(torch.zeros(192, 4), torch.zeros(192), torch.ones(4))
    config = UNetConfig(weights=write(tmp_path, "scheduler/scheduler_config.json", SCHEDULER))
    build_video_model(config, DiffusionConfig(), patches, 7)
    with pytest.raises(UserError, match=r"sigma_max 700\.0, vidpara samples with 80\.0"):
        build_video_model(config, DiffusionConfig(sigma_max=80.0), patches, 7)


def image_encoder(folder: Path, sub: str) -> ImageEncoderConfig:
    MAKE["image_encoder"]().save_pretrained(folder / sub)
    return ImageEncoderConfig("clip", str(folder))


@pytest.mark.parametrize(("sub", "path"), [("image_encoder", "feature_extractor/"), ("", "")])
def test_clips_own_preprocessing_is_ours_and_another_is_named(sub: str, path: str, tmp_path):
    """In a pipeline, and in the folder of a CLIP alone."""
    config = image_encoder(tmp_path, sub)
    build_image_encoder(config, 16)  # without any
    file = f"{path}preprocessor_config.json"
    CLIPImageProcessor(crop_size={"height": 16, "width": 16}).save_pretrained(tmp_path / path)
    build_image_encoder(config, 16)
    published = json.loads((tmp_path / file).read_text())
    for changed, message in (
        ({"image_mean": [0.5, 0.5, 0.5]}, r"image_mean \[0\.5, 0\.5, 0\.5\], vidpara has \[0\.481"),
        ({"image_std": [0.5, 0.5, 0.5]}, r"image_std \[0\.5, 0\.5, 0\.5\], vidpara has \[0\.268"),
        ({"rescale_factor": 1 / 127.5}, r"rescale_factor 0\.0078"),
        ({"do_normalize": False}, "do_normalize False, vidpara has True"),
        ({"crop_size": 224}, "makes images of 224 pixels, the image encoder's config.json says 16"),
        ({"do_center_crop": False, "size": {"shortest_edge": 32}}, "makes images of 32 pixels"),
    ):
        write(tmp_path, file, published | changed)
        with pytest.raises(UserError, match=rf"{file} (has )?{message}"):
            build_image_encoder(config, 16)


def test_a_dinov3_of_other_images_is_named(tmp_path):
    """Satellite images have another mean; the file's size is only what its processor resizes to."""
    MAKE["vit"]().save_pretrained(tmp_path)
    web = {
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
        "rescale_factor": 0.00392156862745098,
    }
    config = ViTConfig(
        weights=write(tmp_path, "preprocessor_config.json", web | {"size": {"height": 224, "width": 224}})
    )
    build_vit(config)
    write(tmp_path, "preprocessor_config.json", web | {"image_mean": [0.43, 0.411, 0.296]})
    with pytest.raises(UserError, match=r"image_mean \[0\.43, 0\.411, 0\.296\], vidpara has \[0\.485"):
        build_vit(config)
