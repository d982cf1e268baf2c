"""Both stages on data of others: a LeRobotDataset with actions beside a folder of videos without."""

from __future__ import annotations

import json
import runpy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.data.rollout_files import drift
from vidpara.build_data import build_clips, build_data, build_shares, check_weights
from vidpara.cli import UserError, load
from vidpara.config import DataConfig, TrainerConfig, TrainPolicyConfig, TrainVideoConfig
from vidpara.data.sources import read_sources
from vidpara.data.team import ALONE
from vidpara.evaluation.video import write_mp4
from vidpara.models.autoencoder import Pixels
from vidpara.models.image_encoder import ZeroContext
from vidpara.training.sampler import Piece

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
LEROBOT = Path(__file__).parent / "data/samples/v3.0"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("mixed")
    for seed in range(2):
        write_mp4(folder / f"videos/{seed}.mp4", drift(24, seed), 20, 10)
    return folder


def train(stage: str, schema: type, folder: Path, *settings: str) -> set[str]:
    """Two steps; the names of all metrics."""
    run = folder / stage
    argv = [
        *settings, str(ROOT / "configs/pocket.yaml"), "--run", str(run), "--data.rollouts", str(folder / "videos"),
        str(LEROBOT), "--data.size", "64", "64", "--data.cache", str(folder / "latents"), "--data.validation_demos",
        "1", "--data.validation_clips", "2", "--trainer.batch_size", "4", "--trainer.steps", "2", "--trainer.log_every",
        "1", "--autoencoder.patch", "4", "--sample_steps", "2", "--data.until", "end",
    ]  # fmt: skip
    runpy.run_path(str(ROOT / f"stages/{stage}.py"))["run"](load(schema, argv), argv)
    return set().union(*map(json.loads, (run / "metrics.jsonl").read_text().splitlines()))


def test_both_stages_train_on_a_mixture_of_data_with_and_without_actions(folder):
    video = train("train_video", TrainVideoConfig, folder, str(ROOT / "configs/video/stage_one.yaml"))
    assert "val/video_loss" in video
    policy = train("train_policy", TrainPolicyConfig, folder, str(ROOT / "configs/policy/joint.yaml"))
    assert {"train_step/volume_loss", "train_step/video_loss", "val/pixel_error"} <= policy


def test_a_policy_without_video_loss_refuses_videos(folder):
    with pytest.raises(UserError, match=r"data\.rollouts gives videos without actions"):
        train("train_policy", TrainPolicyConfig, folder, str(ROOT / "configs/policy/dinov3_para.yaml"))


def test_sources_are_drawn_by_their_weights_and_never_actions_from_videos(folder):
    data = DataConfig(
        rollouts=(folder / "videos", LEROBOT), size=(64, 64), validation_demos=1, cache=folder / "weighted",
        weights=(3.0, 1.0),
    )  # fmt: skip
    clips, _ = build_clips(data, read_sources(data), Pixels(), ZeroContext(4))
    acting, others = build_shares(data, clips, 12, 4)
    assert [piece[:2] for piece in acting.pieces] == [(0, clips.labelled)] and acting.samples == 12
    assert others.pieces == (Piece(0, clips.labelled, 1.0), Piece(clips.labelled, len(clips), 3.0))
    assert not clips[clips.labelled].actions.valid.any()
    for wrong in ((1.0,), (1.0, 0.0)):
        with pytest.raises(UserError, match=r"data\.weights .* one positive number for each of the 2"):
            check_weights(replace(data, weights=wrong))


@pytest.mark.parametrize("one", [False, True])
def test_a_batch_is_what_the_model_expects_first_and_others_or_one_clip_alone(folder, one):
    config = TrainPolicyConfig(
        data=DataConfig(rollouts=(LEROBOT,), size=(64, 64), validation_demos=1, cache=folder / "whole"),
        trainer=TrainerConfig(batch_size=4, accumulate=2, overfit_one_sample=one),
    )
    episodes = read_sources(config.data)
    data = build_data(
        config, episodes, Pixels(), ZeroContext(4), ALONE, lambda count: count - 3, labelled=True
    )
    clips = 1 if one else len(data.training)
    assert [share.samples for share in data.shares] == [5, 3]
    assert [share.pieces for share in data.shares] == [(Piece(0, clips),)] * 2
    assert (len(data.training) == len(data.validation) == 1) == one


@pytest.mark.parametrize("most", [1, 5, 7, 1000])
def test_there_are_no_more_validation_clips_than_asked_for_and_they_are_evenly_spaced(folder, most):
    data = DataConfig(rollouts=(LEROBOT,), size=(64, 64), validation_demos=1, cache=folder / "whole")
    _, every = build_clips(
        replace(data, validation_clips=10**6), read_sources(data), Pixels(), ZeroContext(4)
    )
    _, found = build_clips(replace(data, validation_clips=most), read_sources(data), Pixels(), ZeroContext(4))
    assert min(most, len(every)) / 2 < len(found) <= most
    assert len(set(np.diff(list(found.indices)))) <= 1
