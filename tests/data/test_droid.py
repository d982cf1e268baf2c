"""DROID's LeRobot form, written here from our own samples: no DROID data are at hand.

The columns are those of lerobot's conversion: poses as x, y, z and Euler angles, a gripper from 0 open to 1 closed, and
cameras as x, y, z and Euler angles of the camera in the robot's base. Intrinsics come from a file.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from scipy.spatial.transform import Rotation
from torch.utils.data import default_collate

from tests.data.rollout_files import drift
from vidpara.build_data import build_clips, build_shares
from vidpara.cli import UserError
from vidpara.config import ClipConfig, DataConfig, LeRobotConfig, TrainerConfig
from vidpara.data.episode import Episode
from vidpara.data.sources import read_sources
from vidpara.data.split import workspace
from vidpara.evaluation.video import write_mp4
from vidpara.models.autoencoder import Pixels
from vidpara.models.image_encoder import ZeroContext
from vidpara.training.sampler import BatchSampler

SAMPLE = Path(__file__).parent / "samples/v2.1"
COLUMNS = Path(__file__).parents[2] / "configs/data/droid.yaml"
CAMERA = "exterior_1_left"
EXTRINSICS = f"camera_extrinsics.{CAMERA}"
WIDTH = 0.085


@pytest.fixture(scope="module")
def truth() -> list[Episode]:
    return read_sources(DataConfig(rollouts=(SAMPLE,)))


@pytest.fixture
def droid(tmp_path: Path, truth: list[Episode]) -> Path:
    """Our samples with DROID's columns, and `cameras.yaml` beside them."""
    folder = Path(shutil.copytree(SAMPLE, tmp_path / "droid"))
    (folder / "videos/chunk-000/observation.images.agentview").rename(
        folder / f"videos/chunk-000/observation.images.{CAMERA}"
    )
    info = json.loads((folder / "meta/info.json").read_text())
    features = info["features"]
    features[f"observation.images.{CAMERA}"] = features.pop("observation.images.agentview")
    for name in [name for name in features if name.startswith(("observation.state", "action", "camera."))]:
        del features[name]
    for file, episode in zip(sorted(folder.rglob("*.parquet")), truth, strict=True):
        table = pq.read_table(file)
        kept = {name: table[name] for name in table.column_names if name in features}
        place = episode.camera.world_from_camera.numpy().astype(np.float64)
        seen_from = [*place[:3, 3], *Rotation.from_matrix(place[:3, :3]).as_euler("xyz")]
        turned = Rotation.from_matrix(episode.rotation.numpy()).as_euler("xyz")
        command = np.append(episode.gripper[1:].numpy(), 0.0)[:, None]
        columns = {
            "observation.state.cartesian_position": np.concatenate([episode.position.numpy(), turned], 1),
            "observation.state.gripper_position": 1 - episode.opening.numpy()[:, None] / WIDTH,
            "action.gripper_position": command,
            EXTRINSICS: np.tile(seen_from, (len(episode), 1)),
        }
        features |= {name: {"dtype": "float32", "shape": [each.shape[1]]} for name, each in columns.items()}
        arrays = {name: pa.array(list(each.astype(np.float32))) for name, each in columns.items()}
        pq.write_table(pa.table(kept | arrays), file)
    (folder / "meta/info.json").write_text(json.dumps(info))
    camera = {"intrinsics": truth[0].camera.intrinsics.tolist(), "image_size": [64, 64]}
    (tmp_path / "cameras.yaml").write_text(yaml.dump({CAMERA: camera}))
    return folder


def change(folder: Path, name: str, edit: Callable[[np.ndarray], np.ndarray]) -> None:
    for file in folder.rglob("*.parquet"):
        table = pq.read_table(file)
        column = pa.array(list(edit(np.stack(table[name].to_numpy()))))
        pq.write_table(table.set_column(table.column_names.index(name), name, column), file)


def described(folder: Path, **settings: Any) -> Path:
    """A YAML file beside the data that describes them; `settings` of the columns are added to those of DROID."""
    file = folder.parent / "droid.yaml"
    said = {"include": str(COLUMNS), "path": str(folder), "cameras": str(folder.parent / "cameras.yaml")}
    file.write_text(yaml.dump(said | settings))
    return file


def read(folder: Path, **settings: Any) -> list[Episode]:
    return read_sources(DataConfig(rollouts=(described(folder, **settings),)))


def test_droids_columns_read_to_the_poses_and_pixels_they_were_written_from(droid, truth):
    for found, expected in zip(read(droid), truth, strict=True):
        assert found.labelled and found.has_rotation
        torch.testing.assert_close(found.position, expected.position)
        torch.testing.assert_close(found.rotation, expected.rotation, atol=1e-5, rtol=0)
        torch.testing.assert_close(found.opening, expected.opening, atol=1e-6, rtol=0)
        torch.testing.assert_close(found.gripper[1:], expected.gripper[1:])
        torch.testing.assert_close(found.pixel, expected.pixel, atol=1e-2, rtol=0)


def test_a_camera_of_zeros_was_not_calibrated_and_the_episodes_are_video(droid, capsys):
    change(droid, EXTRINSICS, np.zeros_like)
    assert not any(episode.labelled for episode in read(droid))
    assert "2 of 2 episodes have no parameters of camera 'exterior_1_left'" in capsys.readouterr().err


def test_without_intrinsics_the_episodes_are_video(droid, capsys):
    assert not any(episode.labelled for episode in read(droid, cameras=None))
    assert re.search(r"give them with 'cameras' in .*droid.yaml", capsys.readouterr().err)


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ("pose.{}", r"no column 'pose\.exterior_1_left'"),
        ("action.gripper_position", r"holds 1 values, x, y, z"),
    ],
)
def test_extrinsics_that_do_not_fit_are_named(droid, column, message):
    change(droid, "action.gripper_position", np.zeros_like)  # constant, as extrinsics must be
    with pytest.raises(UserError, match=message):
        read(droid, lerobot={"extrinsics": column})


def test_positions_alone_are_labels_without_rotation(droid, truth, tmp_path):
    episodes = read(droid, lerobot={"rotation": "none", "opening": "none"})
    assert all(e.labelled and not e.has_rotation and not e.opening.any() for e in episodes)
    torch.testing.assert_close(episodes[0].pixel, truth[0].pixel, atol=1e-2, rtol=0)
    assert workspace([*episodes, *truth]).home == workspace(truth).home
    config = DataConfig(rollouts=(described(droid),), validation_demos=1, cache=tmp_path / "cache")
    clip = build_clips(config, episodes, Pixels(), ZeroContext(4))[0][20]
    assert clip.actions.valid.all() and not clip.actions.has_rotation.any()
    assert clip.actions.rotation.isfinite().all() and clip.state.opening == 0


def test_droid_libero_and_video_are_one_batch(droid, truth, tmp_path):
    """Other columns, camera, gripper and rate, no actions at all: one clock, one size, each with its weight."""
    slow = DataConfig(fps=10.0, size=(64, 64), validation_demos=1, cache=tmp_path / "cache")
    write_mp4(tmp_path / "videos/a.mp4", drift(60, 0), 30, 10)
    sources = (described(droid), SAMPLE.with_name("v3.0"), tmp_path / "videos")
    config = replace(slow, rollouts=sources, clip=ClipConfig(frames=3), weights=(1.0, 1.0, 2.0))
    episodes = read_sources(config)
    assert [round(e.rate) for e in episodes] == [10] * 5
    clips, _ = build_clips(config, episodes, Pixels(), ZeroContext(4))
    sampler = BatchSampler(build_shares(config, clips, 6, 6), TrainerConfig(batch_size=12))
    drawn = [draw.index for draw in sampler.batch(0, 0)]
    batch, acting = default_collate([clips[index] for index in drawn]), torch.tensor(drawn) < clips.labelled
    assert acting[:6].all() and not acting.all()
    assert batch.latents.shape == (12, 3, 3, 64, 64) and batch.actions.position.isfinite().all()
    assert batch.actions.valid[acting].any() and not batch.actions.valid[~acting].any()
    of_droid, of_libero = (e for e in clips.episodes[:3:2])
    torch.testing.assert_close(of_droid.position, of_libero.position, atol=1e-3, rtol=0)
    torch.testing.assert_close(of_droid.gripper[1:], of_libero.gripper[1:], atol=1e-3, rtol=0)


def test_a_rotation_that_was_recorded_is_a_label(truth, tmp_path):
    config = DataConfig(rollouts=(SAMPLE,), validation_demos=1, cache=tmp_path / "cache")
    clips, _ = build_clips(config, truth, Pixels(), ZeroContext(4))
    for index in (0, len(clips) - 1):
        assert clips[index].actions.has_rotation.all()


def test_what_was_not_recorded_needs_no_column():
    columns = LeRobotConfig(rotation="none", opening="none", rotation_at=90, opening_at=(90,))
    assert len(read_sources(DataConfig(rollouts=(SAMPLE,), lerobot=columns))) == 2
