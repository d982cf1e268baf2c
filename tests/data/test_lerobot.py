"""LeRobotDatasets of every version, written by lerobot itself (samples/make.py), whole and broken on purpose."""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from PIL import Image
from scipy.spatial.transform import Rotation

from vidpara.cli import UserError, read_yaml
from vidpara.config import DataConfig, LeRobotConfig
from vidpara.data import lerobot_columns
from vidpara.data.episode import Episode
from vidpara.data.published import site_rotation
from vidpara.data.source_file import Source
from vidpara.data.sources import read_sources

SAMPLES = Path(__file__).parent / "samples"
VERSIONS = ("v2.0", "v2.1", "v3.0")
DATA = {2: "data/chunk-000/episode_000001.parquet", 3: "data/chunk-000/file-000.parquet"}
VIDEO = {
    2: "videos/chunk-000/observation.images.agentview/episode_000001.mp4",
    3: "videos/observation.images.agentview/chunk-000/file-000.mp4",
}
EPISODES = "meta/episodes/chunk-000/file-000.parquet"
CAMERA = ("camera.agentview.intrinsics", "camera.agentview.world_from_camera")


def read(folder: Path, **settings) -> list[Episode]:
    return read_sources(DataConfig(rollouts=(folder,), **settings))


def test_the_hands_rotation_becomes_the_grip_sites():
    """What this project records of the site is what LIBERO records of the hand, a quarter turn on."""
    sites, hands = read(SAMPLES / "v3.0"), read(SAMPLES / "v3.0", lerobot=LeRobotConfig(rotation_of="hand"))
    for site, hand in zip(sites, hands, strict=True):
        stored = Rotation.from_matrix(site.rotation.numpy()).as_rotvec()
        torch.testing.assert_close(hand.rotation, torch.from_numpy(site_rotation(stored)).float())
        assert not torch.allclose(hand.rotation, site.rotation, atol=0.5)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"gripper_open": 1.0}, "gripper_open and --data.lerobot.gripper_closed are both 1.0"),
        ({"opening_at": ()}, "opening_at names no value"),
    ],
)
def test_settings_that_say_nothing_are_named(settings, words):
    with pytest.raises(UserError, match=words):
        read(SAMPLES / "v3.0", lerobot=LeRobotConfig(**settings))


@pytest.fixture(params=[2, 3])
def version(request) -> int:
    return request.param


@pytest.fixture
def folder(version: int, tmp_path: Path) -> Path:
    return Path(shutil.copytree(SAMPLES / {2: "v2.1", 3: "v3.0"}[version], tmp_path / "dataset"))


def change(file: Path, edit: Callable[[dict[str, list]], None]) -> None:
    """Rewrite a parquet file with edited columns."""
    table = pq.read_table(file)
    columns = table.to_pydict()
    edit(columns)
    pq.write_table(pa.table(columns), file)


def every_data_file(folder: Path) -> list[Path]:
    return sorted((folder / "data").rglob("*.parquet"))


def without_camera(folder: Path) -> Path:
    for file in every_data_file(folder):
        change(file, lambda columns: [columns.pop(name) for name in CAMERA])
    return folder


@pytest.mark.parametrize("name", VERSIONS)
def test_every_version_reads_to_the_same_poses_and_nearly_the_same_frames(name):
    episodes = read(SAMPLES / name)
    assert [(e.name, len(e)) for e in episodes] == [("episode_000000", 80), ("episode_000001", 82)]
    truth = torch.tensor(json.loads((SAMPLES / "positions.json").read_text()))
    assert torch.equal(torch.cat([e.position for e in episodes]), truth)
    seen = np.concatenate([im for e in episodes for im in e.images(range(0, len(e), 16))], axis=1)
    assert np.abs(seen.astype(int) - np.asarray(Image.open(SAMPLES / "frames.png"))).mean() < 3
    assert all(e.labelled and e.in_view.all() and e.image_size == (64, 64) for e in episodes)
    assert all(0 < e.gripper.sum() < len(e) and e.release < len(e) for e in episodes)


def test_frames_belong_to_their_moments_in_a_file_of_several_episodes():
    """The gripper closes around the bowl at another moment in the two episodes; v2 keeps them in files of their own."""
    for of_own, together in zip(read(SAMPLES / "v2.1"), read(SAMPLES / "v3.0"), strict=True):
        ours, theirs = together.images().astype(int), of_own.images().astype(int)
        away = np.abs(ours[:, None, ::4, ::4] - theirs[None, :, ::4, ::4]).mean((2, 3, 4))
        assert (np.abs(away.argmin(1) - np.arange(len(ours))) <= 2).all() and away.diagonal().max() < 3


def test_resized_images_take_camera_and_pixels_along():
    stored, resized = read(SAMPLES / "v3.0")[0], read(SAMPLES / "v3.0", size=(32, 96))[0]
    assert resized.images([3, 5]).shape == (2, 32, 96, 3)
    torch.testing.assert_close(resized.pixel, stored.pixel * torch.tensor([1.5, 0.5]))


def test_without_camera_parameters_the_episodes_are_video_and_it_is_said_once(folder, capsys):
    episodes = read(without_camera(folder))
    assert len(episodes) == 2 and not any(e.labelled or e.in_view.any() for e in episodes)
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "2 of 2 episodes" in said and "--data.cameras" in said


def test_a_file_of_cameras_stands_in_for_columns(folder, tmp_path, capsys):
    truth = read(folder)[0]
    file = tmp_path / "cameras.yaml"
    half = (np.diag([0.5, 0.5, 1]) @ truth.camera.intrinsics.numpy()).tolist()  # written down for 32 x 32
    pose = truth.camera.world_from_camera.tolist()
    file.write_text(
        yaml.dump({"agentview": {"intrinsics": half, "world_from_camera": pose, "image_size": [32, 32]}})
    )
    found = read(without_camera(folder), cameras=file)[0]
    torch.testing.assert_close(found.pixel, truth.pixel)
    assert not capsys.readouterr().err
    file.write_text(yaml.dump({"wrist": {}}))
    with pytest.raises(UserError, match=r"camera 'agentview'; it has \['wrist'\]"):
        read(folder, cameras=file)


def test_camera_parameters_may_stand_in_the_list_of_episodes(tmp_path):
    truth = read(SAMPLES / "v3.0")
    folder = without_camera(Path(shutil.copytree(SAMPLES / "v3.0", tmp_path / "dataset")))
    still = [part.reshape(-1).tolist() for part in truth[0].camera]
    change(
        folder / EPISODES,
        lambda columns: columns.update({n: [v] * 2 for n, v in zip(CAMERA, still, strict=True)}),
    )
    for found, expected in zip(read(folder), truth, strict=True):
        torch.testing.assert_close(found.pixel, expected.pixel)


@pytest.mark.parametrize("kind", ["euler_xyz", "quaternion_xyzw", "quaternion_wxyz", "matrix"])
def test_every_notation_of_a_rotation_gives_the_same_rotation(kind, tmp_path):
    folder = Path(shutil.copytree(SAMPLES / "v2.1", tmp_path / "dataset"))

    def rewrite(columns: dict[str, list]) -> None:
        turned = Rotation.from_rotvec(np.array(columns["observation.state"])[:, 3:6])
        quaternion = turned.as_quat()
        columns["pose"] = {
            "euler_xyz": turned.as_euler("xyz"),
            "quaternion_xyzw": quaternion,
            "quaternion_wxyz": np.roll(quaternion, 1, axis=1),
            "matrix": turned.as_matrix().reshape(-1, 9),
        }[kind].tolist()  # fmt: skip

    truth = read(folder)[0].rotation
    for file in every_data_file(folder):
        change(file, rewrite)
    columns = LeRobotConfig(rotation="pose", rotation_at=0, rotation_as=kind)
    torch.testing.assert_close(read(folder, lerobot=columns)[0].rotation, truth, atol=1e-5, rtol=0)


def test_commands_lead_and_measured_grippers_do_not(tmp_path):
    leads, measured = (
        read(SAMPLES / "v3.0", lerobot=LeRobotConfig(gripper_leads=on))[0].gripper for on in (True, False)
    )
    assert torch.equal(leads[1:], measured[:-1]) and not torch.equal(leads, measured)
    inverted = LeRobotConfig(gripper_open=1.0, gripper_closed=-1.0)
    assert torch.equal(read(SAMPLES / "v3.0", lerobot=inverted)[0].gripper, 1 - leads)
    a_little_beyond = LeRobotConfig(gripper_closed=0.95)
    assert read(SAMPLES / "v3.0", lerobot=a_little_beyond)[0].gripper.max() == 1


def test_images_in_rows_are_read_like_videos(folder, version):
    truth = read(folder)
    expected = [episode.images() for episode in truth]
    info = json.loads((folder / "meta/info.json").read_text())
    key = "observation.images.agentview"
    info["features"][key]["dtype"] = "image"
    (folder / "meta/info.json").write_text(json.dumps(info))

    def png(image: np.ndarray) -> dict[str, bytes]:
        stream = io.BytesIO()
        Image.fromarray(image).save(stream, "PNG")
        return {"bytes": stream.getvalue()}

    for file in every_data_file(folder):
        table = pq.read_table(file)
        rows = zip(table["episode_index"].to_pylist(), table["frame_index"].to_pylist(), strict=True)
        images = pa.array([png(expected[episode][frame]) for episode, frame in rows])
        pq.write_table(table.append_column(key, images), file, row_group_size=50)
    shutil.rmtree(folder / "videos")
    for found, images, of_video in zip(read(folder), expected, truth, strict=True):
        moments = [70, 3, 3, 49, 50]
        assert np.array_equal(found.images(moments), images[moments])
        assert torch.equal(found.pixel, of_video.pixel)


# ------------------------------------------------------------------------------------------------- broken on purpose
def expect(folder: Path, message: str, **settings) -> None:
    with pytest.raises(UserError, match=message):
        for episode in read(folder, **settings):
            episode.images()


@pytest.mark.parametrize("keep", [0, 100, 0.5, 0.99])
def test_a_truncated_parquet_file_is_named(folder, version, keep):
    file = folder / DATA[version]
    content = file.read_bytes()
    file.write_bytes(content[: keep if isinstance(keep, int) else int(keep * len(content))])
    expect(folder, rf"{file.name} is not a readable parquet file.*copy it anew")


@pytest.mark.parametrize("keep", [0, 100, 0.2, 0.5, 0.9])
def test_a_truncated_video_is_named(folder, version, keep):
    file = folder / VIDEO[version]
    content = file.read_bytes()
    file.write_bytes(content[: keep if isinstance(keep, int) else int(keep * len(content))])
    expect(folder, rf"{file.name}.*copy")


def test_a_missing_data_file_is_named(folder, version):
    (folder / DATA[version]).unlink()
    expect(folder, rf"{DATA[version]} does not exist")


def test_a_missing_video_is_named(folder, version):
    (folder / VIDEO[version]).unlink()
    expect(folder, rf"{VIDEO[version]} does not exist")


def test_a_list_of_too_few_episodes_is_named(folder, version):
    if version == 2:
        file = folder / "meta/episodes.jsonl"
        file.write_text(file.read_text().splitlines()[0] + "\n")
    else:
        pq.write_table(pq.read_table(folder / EPISODES).slice(0, 1), folder / EPISODES)
    with pytest.raises(UserError, match=r"says 2 episodes, meta lists 1"):
        read(folder)


def test_a_misspelt_camera_key_is_named(folder, tmp_path):
    for file in every_data_file(folder):
        change(file, lambda columns: [columns.pop(name) for name in CAMERA])
    told = {"intrinsics": np.eye(3).tolist(), "world_from_camera": np.eye(4).tolist()}
    for wrong, words in (
        ({"imagesize": [64, 64]}, "unknown key 'imagesize'"),
        ({"image_size": [0, 0]}, "give rows"),
        ({"image_size": ["a", "b"]}, "give rows"),
        ({"image_size": [1.5, 64]}, "give rows"),
    ):
        (tmp_path / "cameras.yaml").write_text(yaml.dump({"agentview": told | wrong}))
        with pytest.raises(UserError, match=words):
            read(folder, cameras=tmp_path / "cameras.yaml")


def test_a_missing_list_of_episodes_is_named(folder, version):
    (folder / (EPISODES if version == 3 else "meta/episodes.jsonl")).unlink()
    expect(folder, r"meta/episodes.*copy the missing file")


def test_an_empty_episode_is_named(folder, version):
    if version == 3:
        change(folder / EPISODES, lambda columns: columns.update(length=[80, 0]))
    else:
        file = folder / "meta/episodes.jsonl"
        file.write_text(file.read_text().replace('"length": 82', '"length": 0'))
    expect(folder, r"episode_000001 is empty")


def test_a_length_that_the_rows_do_not_have_is_named(folder, version):
    change(folder / DATA[version], lambda columns: [column.pop() for column in columns.values()])
    expect(folder, r"episode_000001 has 81 rows there, its metadata say 82")


def moved(at: str, by: float) -> Callable[[dict[str, list]], None]:
    def edit(columns: dict[str, list]) -> None:
        name = f"videos/observation.images.agentview/{at}_timestamp"
        columns[name] = [columns[name][0], columns[name][1] + by]

    return edit


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (moved("from", -1), r"episode_000000 and episode_000001 overlap"),
        (moved("from", 1), r"episode_000001 ends at 8\.100 s, its last frame is at 9\.050 s"),
        (moved("to", -1), r"episode_000001 ends at 7\.100 s"),
        (lambda c: [moved(at, 4)(c) for at in ("from", "to")], r"file-000\.mp4: a frame at 8\.\d+ s is wanted"),
        (lambda c: c.update({"data/file_index": [0, 3]}), r"file-003\.parquet does not exist"),
        (lambda c: c.update({"videos/observation.images.agentview/chunk_index": [0, 2]}), r"chunk-002.*does not exist"),
        (lambda c: c.pop("length"), r"the list of episodes lacks 'length'"),
        (lambda c: c.update(episode_index=[0, 0]), r"lists episode_000000 twice"),
        (moved("to", float("nan")), r"episode_000001 begins or ends at no time"),
    ],
)  # fmt: skip
def test_wrong_offsets_are_named(edit, message, tmp_path):
    folder = Path(shutil.copytree(SAMPLES / "v3.0", tmp_path / "dataset"))
    change(folder / EPISODES, edit)
    expect(folder, message)


def test_one_bad_episode_costs_no_other(folder, version, capsys):
    def edit(columns: dict[str, list]) -> None:
        columns["timestamp"][-1] = 0.5

    change(folder / DATA[version], edit)
    config = DataConfig(rollouts=(folder,), on_error="skip")
    assert [episode.name for episode in read_sources(config)] == ["episode_000000"]
    said = capsys.readouterr().err
    assert "episode_000001: timestamps do not increase" in said and "1 of 2 were skipped" in said


def test_nan_in_the_gripper_is_named(folder, version):
    def edit(columns: dict[str, list]) -> None:
        columns["action"][-2] = [float("nan")] * 7

    change(folder / DATA[version], edit)
    expect(folder, r"episode_000001 has a non-finite gripper command")


def test_timestamps_that_run_back_are_named(folder, version):
    def edit(columns: dict[str, list]) -> None:
        columns["timestamp"][-1] = 0.5

    change(folder / DATA[version], edit)
    expect(folder, r"episode_000001: timestamps do not increase")


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda info: info.update(codebase_version="v1.6"), r"version v1\.6 is not read"),
        (lambda info: info.pop("fps"), r"info\.json is not a LeRobotDataset's description"),
        (lambda info: info.update(data_path="data/{shard}.parquet"), r"unknown path template"),
        (lambda info: info.update(fps=0), r"fps 0\.0 and chunks_size \d+ must be above 0"),
        (lambda info: info.update(chunks_size=0), r"chunks_size 0 must be above 0"),
        (lambda info: info.update(features=[]), r"features are no mapping"),
        (lambda info: info["features"].update(action=None), r"features are no mapping"),
    ],
)
def test_a_wrong_description_is_named(edit, message, folder):
    file = folder / "meta/info.json"
    info = json.loads(file.read_text())
    edit(info)
    file.write_text(json.dumps(info))
    expect(folder, message)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"camera": "front"}, r"no camera 'front'; it has \['agentview'\]: set --data.camera"),
        ({"lerobot": LeRobotConfig(position="state")}, r"no column 'state'.*'observation.state'.*lerobot\.position"),
        ({"lerobot": LeRobotConfig(gripper_at=7)}, r"'action' holds 7 values a row, values \[7\].*gripper_at"),
        ({"lerobot": LeRobotConfig(rotation_as="matrix", opening="none")}, r"'observation.state' holds 8 values a row"),
        ({"lerobot": LeRobotConfig(rotation_as="quaternion_xyzw")},
         r"value 6 of 'observation.state' is to be part of the rotation and of the opening; set .*opening_at \(or"),
        ({"lerobot": LeRobotConfig(rotation_at=2)}, r"value 2 .* of the position and of the rotation; .*rotation_at"),
        ({"lerobot": LeRobotConfig(rotation="camera.agentview.intrinsics", rotation_at=0, rotation_as="matrix")},
         r"holds no rotation as matrix"),
        ({"lerobot": LeRobotConfig(rotation_as="quaternion_xyzw", opening_at=(7,))},
         r"as quaternion_xyzw \(rows are not of length one"),
        ({"lerobot": LeRobotConfig(rotation_as="quaternion_wxyz", opening_at=(7,))},
         r"as quaternion_wxyz \(rows are not of length one"),
        ({"lerobot": LeRobotConfig(gripper_closed=0.0)}, r"gripper commands from 0\.00 to 2\.00.*gripper_closed"),
    ],
)  # fmt: skip
def test_settings_that_do_not_fit_name_what_there_is(settings, message):
    expect(SAMPLES / "v3.0", message, **settings)


def test_a_camera_that_moves_is_named(folder, version):
    def edit(columns: dict[str, list]) -> None:
        columns[CAMERA[1]][-1][3] += 0.05

    change(folder / DATA[version], edit)
    expect(folder, r"episode_000001: 'camera.agentview.world_from_camera' changes")


def test_a_pose_that_is_not_a_number_is_named_with_its_frame(folder, version):
    def edit(columns: dict[str, list]) -> None:
        columns["observation.state"][-2][0] = float("nan")

    change(folder / DATA[version], edit)
    expect(folder, r"episode_000001 has a non-finite end-effector position at frame 80")


def test_statistics_of_the_episodes_are_not_read(tmp_path, monkeypatch):
    """They are most of what meta/episodes holds."""
    columns = []
    real = pq.ParquetFile.read
    monkeypatch.setattr(
        pq.ParquetFile,
        "read",
        lambda self, wanted, **kw: (columns.extend(wanted), real(self, wanted, **kw))[1],
    )
    read(SAMPLES / "v3.0")
    stored = pq.read_schema(SAMPLES / "v3.0/meta/episodes/chunk-000/file-000.parquet").names
    assert any(name.startswith("stats/") for name in stored)
    assert "length" in columns and not any(name.startswith("stats/") for name in columns)


def test_a_file_of_cameras_is_read_once_and_again_when_it_has_changed(folder, tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr(lerobot_columns, "read_yaml", lambda file: opened.append(file) or read_yaml(file))
    file = tmp_path / "cameras.yaml"
    for fx in (40.0, 50.0):
        lens = {"intrinsics": [[fx, 0, 32], [0, fx, 32], [0, 0, 1]], "world_from_camera": np.eye(4).tolist()}
        file.write_text(yaml.safe_dump({"agentview": lens}))
        os.utime(file, ns=(0, int(fx)))
        source = Source(folder, folder, "agentview", file, LeRobotConfig())
        for _ in range(3):
            found = lerobot_columns._camera_in_file(file, source, (64, 64))
            assert found.intrinsics[0, 0] == fx
    assert len(opened) == 2
