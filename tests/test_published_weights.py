"""From a folder in Stable Video Diffusion's layout through both stages, and out again as folders that diffusers loads.

The folder has the classes and the layout of the published one, and few weights.
"""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from diffusers import (
    AutoencoderKLTemporalDecoder,
    StableVideoDiffusionPipeline,
    UNetSpatioTemporalConditionModel,
)
from PIL import Image
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

from tests.data.test_rollouts import write
from tests.test_pipeline import stage
from vidpara import memory, run_folder
from vidpara.build import build_autoencoder, build_image_encoder, build_unet, build_video_model
from vidpara.cli import UserError, load
from vidpara.config import (
    AutoencoderConfig,
    DiffusionConfig,
    ExportConfig,
    ImageEncoderConfig,
    TrainPolicyConfig,
    TrainVideoConfig,
    UNetConfig,
)
from vidpara.data.rollouts import read_episodes
from vidpara.models.adapt import adapt
from vidpara.models.autoencoder import PatchPCA
from vidpara.models.diffusion import scheduler
from vidpara.models.published import PREPROCESSING, SCHEDULER
from vidpara.models.svd import random_unet
from vidpara.training.checkpoint import load as load_checkpoint
from vidpara.types import Camera, Observation, RobotState

ROOT = Path(__file__).parents[1]
LATENTS = PatchPCA(torch.zeros(192, 4), torch.zeros(192), torch.ones(4))
SMALL = UNetConfig(channels=(32, 64), attention=(True, True), context_dim=16)


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("published")
    vae = AutoencoderKLTemporalDecoder(
        block_out_channels=(32, 32), down_block_types=("DownEncoderBlock2D",) * 2, layers_per_block=1
    )
    vision = CLIPVisionConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, projection_dim=16,
        patch_size=56, image_size=224,  # the pipeline resizes to 224 whatever the encoder says
    )  # fmt: skip
    StableVideoDiffusionPipeline(
        vae=vae,
        image_encoder=CLIPVisionModelWithProjection(vision),
        unet=random_unet(SMALL, 4, 14),
        scheduler=scheduler(DiffusionConfig()),
        feature_extractor=CLIPImageProcessor(),
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def trained(published: Path, tmp_path_factory) -> tuple[Path, Path, Path]:
    """(rollouts, stage one's run, stage two's run) after a step of each."""
    folder = tmp_path_factory.mktemp("trained")
    rollouts = write(folder / "rollouts.hdf5")
    flags = [
        "--data.rollouts", str(rollouts), "--data.size", "32", "32", "--data.clip.stride", "1", "--autoencoder.weights",
        str(published), "--image_encoder.weights", str(published), "--unet.weights", str(published),
        "--data.validation_demos", "1", "--data.validation_clips", "2", "--trainer.batch_size", "2",
        "--trainer.steps", "1", "--trainer.workers", "0", "--trainer.precision", "no", "--trainer.wandb", "disabled",
        "--sample_steps", "2",
    ]  # fmt: skip
    video, policy = folder / "video", folder / "policy"
    words = [str(ROOT / "configs/reference/stage_one.yaml"), *flags, "--run", str(video)]
    stage("train_video", TrainVideoConfig, words)
    words = [
        str(ROOT / "configs/reference/two_stage.yaml"),
        *flags,
        "--run",
        str(policy),
        "--video_run",
        str(video),
    ]
    stage(
        "train_policy", TrainPolicyConfig, [*words, "--policy.taps", "0", "1", "--policy.head.grid", "8", "8"]
    )
    return rollouts, video, policy


def test_both_stages_leave_pipelines_that_diffusers_loads_and_runs(trained):
    _, *runs = trained
    for run in runs:
        pipeline = StableVideoDiffusionPipeline.from_pretrained(run)
        assert pipeline.unet.config.num_frames == 7
        frames = pipeline(
            Image.new("RGB", (32, 32)),
            height=32,
            width=32,
            num_frames=7,
            num_inference_steps=1,
            output_type="pt",
        ).frames
        assert frames.shape == (1, 7, 3, 32, 32)
    first = UNetSpatioTemporalConditionModel.from_pretrained(runs[0], subfolder="unet")
    published = json.loads((runs[0] / "unet/config.json").read_text())
    assert first.config.in_channels == published["in_channels"] == 8


@pytest.mark.parametrize("stage_one_run", ["published", "absent", "finished"])
def test_a_whole_folder_is_planned_as_it_is_trained(stage_one_run, trained, published):
    """Also with what lies beside the weights: the scheduler and the preprocessing."""
    _, video, policy = trained
    flags = ["--data.size", "32", "32", "--data.clip.stride", "1", "--unet.weights", str(published)]
    flags += ["--autoencoder.weights", str(published), "--image_encoder.weights", str(published)]
    if stage_one_run == "published":
        config, run = load(TrainVideoConfig, [str(ROOT / "configs/reference/stage_one.yaml"), *flags]), video
    else:
        flags += ["--policy.taps", "0", "1", "--policy.head.grid", "8", "8", "--video_run"]
        flags += [str(video if stage_one_run == "finished" else video / "absent")]
        config, run = (
            load(TrainPolicyConfig, [str(ROOT / "configs/reference/two_stage.yaml"), *flags]),
            policy,
        )
    saved = load_checkpoint(run / "checkpoint-00000001").tensors["ema"]
    assert memory.plan(config).ddp.trained == sum(value.numel() for value in saved.values())


def test_what_we_publish_says_the_same_as_what_we_do(trained, tmp_path):
    """Runs and an exported policy pass the checks of a published folder, which read files that are there."""
    _, video, policy = trained
    exported = tmp_path / "exported"
    stage("export_policy", ExportConfig, ["--run", str(policy), "--output", str(exported)])
    for folder in (video, policy, exported):
        assert (folder / SCHEDULER).is_file() and (folder / "feature_extractor" / PREPROCESSING).is_file()
        model = build_video_model(UNetConfig(weights=str(folder)), DiffusionConfig(), LATENTS, 7)
        assert model.unet.dtype == torch.float32
        assert build_image_encoder(ImageEncoderConfig("clip", str(folder)), 16).dim == 16
        assert build_autoencoder(AutoencoderConfig("svd", str(folder))).channels == 4
        StableVideoDiffusionPipeline.from_pretrained(folder)
    with pytest.raises(
        UserError, match=r"scheduler_config\.json has sigma_max 700\.0, vidpara samples with 80\.0"
    ):
        build_video_model(UNetConfig(weights=str(video)), DiffusionConfig(sigma_max=80.0), LATENTS, 7)


def test_a_policy_folder_needs_no_other_and_a_damaged_head_is_named(trained, published, tmp_path):
    _, _, run = trained
    alone = tmp_path / "policy"
    shutil.copytree(run, alone, ignore=shutil.ignore_patterns("checkpoint-*"))
    config = (alone / "config.yaml").read_text()
    assert str(published) in config
    (alone / "config.yaml").write_text(config.replace(str(published), str(tmp_path / "gone")))
    run_folder.load_policy(alone)
    head = alone / "head.safetensors"
    head.write_bytes(head.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"head\.safetensors is damaged or incomplete"):
        run_folder.load_policy(alone)


def test_the_policy_loads_from_its_folder_and_acts_on_images_of_another_size(trained):
    rollouts, _, run = trained
    policy, episode = run_folder.load_policy(run), read_episodes(rollouts, size=(64, 48))[0]
    camera = Camera(episode.camera.intrinsics[None], episode.camera.world_from_camera[None])
    start = RobotState(episode.position[:1], episode.opening[:1])
    chunk = policy.act(Observation(torch.from_numpy(episode.images()[:1]), camera, start))
    assert chunk.position.shape == (1, 6, 3) and chunk.position.isfinite().all()


def test_the_card_says_whose_licence_and_how_to_load_it(trained):
    _, video, policy = trained
    card = (video / "README.md").read_text()
    assert (
        "StableVideoDiffusionPipeline.from_pretrained" in card and "Stability AI's community licence" in card
    )
    assert "for 1 steps of 2 clips a process" in card
    front = yaml.safe_load(card.split("---")[1])
    assert (front["license"], front["license_name"]) == ("other", "stable-video-diffusion-community")
    assert (
        front["license_link"].endswith("LICENSE.md") and front["license_link"] in card.split("## Licence")[1]
    )
    assert "Stability AI's community licence" in (policy / "README.md").read_text()


def test_new_input_channels_change_nothing_until_they_are_trained():
    small = random_unet(SMALL, 4, 7)
    wide = copy.deepcopy(small)
    assert "8 input channels became 12" in adapt(wide, 12, 7)[0]
    clip, rest = torch.randn(1, 7, 8, 8, 8), (torch.tensor([1.0]), torch.randn(1, 1, 16), torch.rand(1, 3))
    more = torch.cat([clip, torch.randn(1, 7, 4, 8, 8)], dim=2)
    with torch.no_grad():
        before, after = small(clip, *rest).sample, wide(more, *rest).sample
    torch.testing.assert_close(after, before)
    with pytest.raises(UserError, match="takes 12 input channels"):
        adapt(wide, 8, 7)


def test_another_clip_length_is_said_and_needs_no_weights(capsys, published):
    unet = build_unet(UNetConfig(weights=str(published)), 4, 7)
    assert "clips of 14 frames became clips of 7; no weight changed" in capsys.readouterr().err
    assert adapt(unet, 8, 7) == []


def test_an_image_encoder_of_another_width_is_named(published, tmp_path):
    with pytest.raises(UserError, match="tokens of 16 values, the UNet's cross-attention takes 1024"):
        build_image_encoder(ImageEncoderConfig("clip", str(published)), 1024)


@pytest.mark.parametrize(("suffix", "clip"), [("", ((320, 576), 7)), ("_256", ((256, 256), 14))])
@pytest.mark.parametrize("recipe", ["stage_one", "two_stage"])
def test_the_reference_recipe_is_what_the_paper_states(recipe, suffix, clip):
    schema = TrainVideoConfig if recipe == "stage_one" else TrainPolicyConfig
    config = load(schema, [str(ROOT / f"configs/reference/{recipe}{suffix}.yaml")])
    assert (config.data.size, config.data.clip.frames) == clip
    assert config.trainer.steps == {"stage_one": 4000, "two_stage": 3000}[recipe]
    if isinstance(config, TrainVideoConfig):
        assert config.optimizer.backbone_lr == 1e-5
    if isinstance(config, TrainPolicyConfig):
        assert (config.policy.taps, config.optimizer.backbone_lr, config.optimizer.lr) == ((1, 2), 1e-6, 1e-4)
        assert config.policy.head.grid == (64, 64)
