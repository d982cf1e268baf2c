"""The whole job at its smallest: rollouts from the real simulator, both stages, every shipped variant, closed loop."""

from __future__ import annotations

import json
import runpy
import shutil
from pathlib import Path

import h5py
import pytest
import torch
from diffusers import UNetSpatioTemporalConditionModel
from once import made_once

from vidpara.cli import UserError, load
from vidpara.config import CollectConfig, EvaluateConfig, ExportConfig, TrainPolicyConfig, TrainVideoConfig
from vidpara.data.rollouts import read_episodes
from vidpara.geometry.camera import inside
from vidpara.heads.pixel import PixelHead
from vidpara.report.sanity import round_trip
from vidpara.run_folder import load_policy, load_video
from vidpara.training.loop import Loop
from vidpara.types import Observation

pytest.importorskip("libero")
pytestmark = pytest.mark.sim

ROOT = Path(__file__).parents[1]
VARIANTS = sorted(path.stem for path in (ROOT / "configs/policy").glob("*.yaml"))
RESUMED = ("two_stage", "dinov3_regression", "act")
"""One of each backbone and of each kind of head; resuming knows nothing else of a variant."""
POCKET = str(ROOT / "configs/pocket.yaml")


def stage(name: str, config: type, argv: list[str]) -> None:
    """Run a stage in this process, as its command line would."""
    entry = runpy.run_path(str(ROOT / "stages" / f"{name}.py"))
    entry["run" if "run" in entry else "main"](load(config, argv), argv)


def interrupted(*anything: object) -> None:
    """In the place of the loop: Ctrl-C before its first step."""
    raise KeyboardInterrupt


@pytest.fixture(scope="session")
def rollouts(tmp_path_factory) -> Path:
    def collect(folder: Path) -> Path:
        words = ["--output", str(folder / "three.hdf5"), "--demos", "3", "--scene.image_size", "64"]
        stage("collect_rollouts", CollectConfig, [str(ROOT / "configs/collect/grid.yaml"), *words])
        return folder / "three.hdf5"

    return made_once(tmp_path_factory, "rollouts", collect)


def flags(rollouts: Path, run: Path, steps: int) -> list[str]:
    return [
        POCKET, "--run", str(run), "--data.rollouts", str(rollouts), "--data.validation_demos", "1",
        "--data.validation_clips", "2", "--trainer.batch_size", "2", "--trainer.steps", str(steps),
        "--trainer.checkpoint_every", "1", "--autoencoder.patch", "4", "--sample_steps", "2",
    ]  # fmt: skip


@pytest.fixture(scope="session")
def video_run(rollouts: Path, tmp_path_factory) -> Path:
    def train(folder: Path) -> Path:
        for steps in (1, 2):  # the second call resumes
            argv = [str(ROOT / "configs/video/stage_one.yaml"), *flags(rollouts, folder / "video", steps)]
            stage("train_video", TrainVideoConfig, argv)
        return folder / "video"

    return made_once(tmp_path_factory, "video_run", train)


def test_stage_one_trains_resumes_and_shows_generated_clips(video_run):
    lines = [json.loads(line) for line in (video_run / "metrics.jsonl").read_text().splitlines()]
    assert {line["step"] for line in lines} == {1, 2}
    assert any("val/video_loss" in line for line in lines)
    assert list((video_run / "vis").glob("generated_*.mp4"))


def test_a_stage_one_unet_loads_in_diffusers(video_run):
    unet = UNetSpatioTemporalConditionModel.from_pretrained(video_run / "unet")
    assert unet.config.in_channels == 32


def test_a_stage_one_run_is_exported_in_half_and_serves_as_before(video_run, tmp_path):
    exported = tmp_path / "video"
    stage("export_policy", ExportConfig, ["--run", str(video_run), "--output", str(exported)])
    size, before = (
        sum(file.stat().st_size for file in run.glob("unet/*.safetensors")) for run in (exported, video_run)
    )
    assert size < 0.6 * before
    with pytest.raises(UserError, match="exists; choose another --output"):
        stage("export_policy", ExportConfig, ["--run", str(video_run), "--output", str(video_run)])
    whole, ours = (next(load_video(run)[0].parameters()) for run in (video_run, exported))
    assert ours.dtype == torch.float32 and torch.equal(ours, whole.half().float())
    with pytest.raises(UserError, match="is not a finished video run"):
        load_video(tmp_path)
    with pytest.raises(UserError, match=r"is not a finished policy run \(head\.safetensors is missing\)"):
        load_policy(video_run)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_shipped_variant_trains_two_steps_resumes_and_acts(variant, rollouts, video_run, tmp_path):
    own = str(ROOT / f"configs/policy/{variant}.yaml")
    from_video = ["--video_run", str(video_run)] if load(TrainPolicyConfig, [own]).video_run else []
    for steps in (1, 2) if variant in RESUMED else (2,):
        argv = [own, *flags(rollouts, tmp_path / variant, steps), *from_video]
        stage("train_policy", TrainPolicyConfig, argv)
    lines = [json.loads(line) for line in (tmp_path / variant / "metrics.jsonl").read_text().splitlines()]
    names = set().union(*lines)
    assert {"train/loss", "val/loss", "val/pixel_error", "val/height_error", "val/gripper_error"} <= names
    assert {"train_step/loss", "train_step/gripper_loss", "train_step/rotation_loss"} <= names
    assert {"vis/train_strip", "vis/val_strip"} <= names
    assert ("vis/imagined" in names) == (load(TrainPolicyConfig, [own]).policy.kind == "video")
    policy, (episode, *_) = load_policy(tmp_path / variant), read_episodes(rollouts)
    camera = (matrix.double().numpy() for matrix in episode.camera)  # as a robot's own code has them
    observation = Observation.of(episode.images()[0], *camera, episode.position[0].tolist(), 0.08)
    first, again = policy.act(observation), policy.act(observation)
    assert first.position.shape == (1, 6, 3) and first.position.isfinite().all()
    assert torch.equal(first.position, again.position)


def test_a_frozen_backbone_keeps_stage_ones_weights(rollouts, video_run, tmp_path):
    argv = [str(ROOT / "configs/policy/frozen_backbone.yaml"), *flags(rollouts, tmp_path / "frozen", 2)]
    stage("train_policy", TrainPolicyConfig, [*argv, "--video_run", str(video_run)])
    before = UNetSpatioTemporalConditionModel.from_pretrained(video_run / "unet").state_dict()
    after = UNetSpatioTemporalConditionModel.from_pretrained(tmp_path / "frozen/unet").state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_the_actions_of_unlabelled_demos_do_not_count_and_their_video_does(rollouts, video_run, tmp_path):
    reversed_actions = tmp_path / "reversed.hdf5"
    shutil.copy(rollouts, reversed_actions)
    with h5py.File(reversed_actions, "a") as file:
        for name in ("actions", "obs/site_pos", "obs/gripper_states"):
            file[f"data/demo_1/{name}"][:] = file[f"data/demo_1/{name}"][()][::-1]

    def losses(name: str, file: Path, *settings: str) -> list[dict[str, float]]:
        argv = [str(ROOT / "configs/policy/two_stage.yaml"), *flags(file, tmp_path / name, 2), *settings]
        more = ["--trainer.batch_size", "8", "--data.until", "end", "--trainer.log_every", "1"]
        torch.manual_seed(0)  # the head's first weights
        stage("train_policy", TrainPolicyConfig, [*argv, *more, "--video_run", str(video_run)])
        lines = map(json.loads, (tmp_path / name / "metrics.jsonl").read_text().splitlines())
        wanted = ("train_step/volume_loss", "train_step/video_loss")
        return [{key: line[key] for key in wanted} for line in lines if wanted[0] in line]

    one, both = ("--data.demos", "1", "--data.unlabelled", "True"), ("--data.demos", "2")
    truth = losses("truth", rollouts, *one)
    assert truth == losses("reversed", reversed_actions, *one)
    assert truth != losses("labelled", rollouts, "--data.demos", "1")
    assert losses("both", rollouts, *both) != losses("both_reversed", reversed_actions, *both)


def test_published_files_say_the_same_without_our_additions(rollouts, tmp_path):
    published = tmp_path / "published.hdf5"
    shutil.copy(rollouts, published)
    with h5py.File(published, "a") as file:
        for demo in file["data"].values():
            del demo["camera"], demo["obs/site_pos"], demo["obs/site_ori"]
    for ours, theirs in zip(read_episodes(rollouts), read_episodes(published), strict=True):
        torch.testing.assert_close(theirs.position, ours.position)
        torch.testing.assert_close(theirs.rotation, ours.rotation, atol=1e-5, rtol=0)
        torch.testing.assert_close(theirs.pixel, ours.pixel, atol=1e-3, rtol=0)
    with pytest.raises(UserError, match=r"demo_0: the model has no camera 'eye_in_hand' that stays in place"):
        with h5py.File(published, "a") as file:
            for demo in file["data"].values():
                demo["obs/eye_in_hand_rgb"] = demo["obs/agentview_rgb"][()]
        read_episodes(published, "eye_in_hand")


def test_recorded_points_lie_in_the_image_and_survive_the_round_trip(rollouts):
    from vidpara.data.split import workspace

    episodes = read_episodes(rollouts)
    config = TrainPolicyConfig().policy.head
    error = round_trip(episodes, PixelHead(32, 6, config, workspace(episodes)))
    assert all(inside(episode.pixel, *episode.image_size).all() for episode in episodes)
    assert error is not None and error.exact < 1e-4 and error.cells <= 0.501 and error.bins <= 0.501


def test_a_trained_policy_drives_the_simulator_and_the_results_say_how(rollouts, video_run, tmp_path):
    run, output = tmp_path / "policy", tmp_path / "results" / "cell.json"
    argv = [
        str(ROOT / "configs/policy/two_stage.yaml"),
        *flags(rollouts, run, 1),
        "--video_run",
        str(video_run),
    ]
    stage("train_policy", TrainPolicyConfig, argv)
    words = [
        str(ROOT / "configs/evaluation/grid.yaml"), "--policy", str(run), "--output", str(output), "--episodes", "2",
        "--max_steps", "30", "--scene.image_size", "64", "--videos", "1",
    ]  # fmt: skip
    stage("evaluate_policy", EvaluateConfig, words)
    result = json.loads(output.read_text())
    assert (
        result["episodes"]
        == 2
        == result["place"] + result["grasp"] + result["miss"]
        == len(result["outcomes"])
    )
    assert list(output.with_suffix("").glob("*.mp4"))


def test_a_stage_one_run_of_another_clip_is_refused(rollouts, video_run, tmp_path):
    argv = [str(ROOT / "configs/policy/two_stage.yaml"), *flags(rollouts, tmp_path / "x", 1)]
    with pytest.raises(UserError, match=r"data\.clip"):
        stage(
            "train_policy",
            TrainPolicyConfig,
            [*argv, "--video_run", str(video_run), "--data.clip.stride", "2"],
        )
    assert not (tmp_path / "x").exists()


def test_a_finished_policy_that_goes_on_is_none_until_it_has_finished_again(
    rollouts, video_run, tmp_path, monkeypatch
):
    run = tmp_path / "policy"
    own = [str(ROOT / "configs/policy/two_stage.yaml"), "--video_run", str(video_run)]
    stage("train_policy", TrainPolicyConfig, [own[0], *flags(rollouts, run, 1), *own[1:]])
    assert load_policy(run)
    with monkeypatch.context() as patch:
        patch.setattr(Loop, "go", interrupted)
        with pytest.raises(KeyboardInterrupt):
            stage("train_policy", TrainPolicyConfig, [own[0], *flags(rollouts, run, 2), *own[1:]])
    with pytest.raises(UserError, match=r"not a finished policy run \(head\.safetensors is missing\)"):
        load_policy(run)
    stage("train_policy", TrainPolicyConfig, [own[0], *flags(rollouts, run, 2), *own[1:]])
    assert load_policy(run)


def test_a_stage_one_run_that_goes_on_is_not_started_from(rollouts, video_run, tmp_path, monkeypatch):
    run = tmp_path / "video"
    shutil.copytree(video_run, run)
    monkeypatch.setattr(Loop, "go", interrupted)
    with pytest.raises(KeyboardInterrupt):
        stage(
            "train_video",
            TrainVideoConfig,
            [str(ROOT / "configs/video/stage_one.yaml"), *flags(rollouts, run, 3)],
        )
    argv = [str(ROOT / "configs/policy/two_stage.yaml"), *flags(rollouts, tmp_path / "x", 1)]
    with pytest.raises(UserError, match="is not a finished stage-one run"):
        stage("train_policy", TrainPolicyConfig, [*argv, "--video_run", str(run)])


def test_a_tap_that_does_not_exist_is_named(rollouts, tmp_path):
    argv = [
        str(ROOT / "configs/policy/joint.yaml"),
        *flags(rollouts, tmp_path / "x", 1),
        "--policy.taps",
        "7",
    ]
    with pytest.raises(UserError, match="decoder blocks 0 to 2"):
        stage("train_policy", TrainPolicyConfig, argv)


def test_weights_of_another_configuration_are_named(rollouts, video_run, tmp_path):
    run = tmp_path / "policy"
    argv = [
        str(ROOT / "configs/policy/two_stage.yaml"),
        *flags(rollouts, run, 1),
        "--video_run",
        str(video_run),
    ]
    stage("train_policy", TrainPolicyConfig, argv)
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(text.replace("height_bins: 32", "height_bins: 16"))
    with pytest.raises(UserError, match=r"head\.safetensors does not fit"):
        load_policy(run)
    (run / "head.safetensors").unlink()
    with pytest.raises(UserError, match=r"not a finished policy run \(head\.safetensors is missing\)"):
        load_policy(run)


def test_one_sample_is_learnt_to_the_point(rollouts, tmp_path):
    argv = [
        str(ROOT / "configs/policy/joint.yaml"), *flags(rollouts, tmp_path / "one", 50), "--trainer.batch_size", "1",
        "--trainer.overfit_one_sample", "True", "--trainer.checkpoint_every", "0",
        "--policy.action_fraction", "1.0", "--trainer.ema", "0.9",
    ]  # fmt: skip
    stage("train_policy", TrainPolicyConfig, argv)
    lines = [json.loads(line) for line in (tmp_path / "one/metrics.jsonl").read_text().splitlines()]
    last = {key: value for line in lines for key, value in line.items()}
    assert last["val/position_error"] < 0.005, last
    assert last["val/position_error"] <= last["val/position_error_90"] < 0.02, last
