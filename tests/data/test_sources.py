"""Which path is which source, and sources with and without actions in one training."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import yaml
from huggingface_hub.utils import filter_repo_objects

from tests.data.rollout_files import FRAMES, SIZE, drift, write
from vidpara.build_data import build_clips
from vidpara.cli import UserError, dump, load
from vidpara.config import CheckConfig, ClipConfig, DataConfig, LeRobotConfig
from vidpara.data import lerobot
from vidpara.data.clips import Clips
from vidpara.data.episode import Episode, at_rate
from vidpara.data.latents import cache_frames, to_float
from vidpara.data.rollouts import read_actions
from vidpara.data.seen import note_seen, warn_of_seen
from vidpara.data.sources import cache_folder, read_sources
from vidpara.data.split import split, workspace
from vidpara.evaluation.evaluators import labelled
from vidpara.evaluation.video import write_mp4
from vidpara.geometry.camera import project
from vidpara.models.autoencoder import Pixels
from vidpara.models.image_encoder import ZeroContext
from vidpara.types import Camera

LEROBOT = Path(__file__).parent / "samples/v3.0"


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    """Two videos in folders of their own, under one name, and files that are none."""
    folder = tmp_path / "videos"
    for seed, name in enumerate(("a", "b")):
        write_mp4(folder / name / "clip.mp4", drift(20 + seed, seed), 20, 10)
    (folder / "notes.txt").write_text("not a video")
    (folder / "a/._clip.mp4").write_bytes(b"left by another system")
    return folder


@pytest.fixture
def rollouts(tmp_path: Path) -> Path:
    return write(tmp_path / "rollouts.hdf5")


def read(*sources: Path, **settings) -> list[Episode]:
    return read_sources(DataConfig(rollouts=sources, **settings))


def clips_of(episodes: list[Episode], folder: Path, **settings) -> Clips:
    cached = {
        source: cache_frames(
            [e for e in episodes if e.source == source],
            lambda x: x[:, :, ::8, ::8],
            ZeroContext(4),
            [],
            folder,
        )
        for source in {e.source for e in episodes}
    }
    return Clips(episodes, [cached[e.source] for e in episodes], ClipConfig(frames=4, stride=3), **settings)


def test_a_folder_of_videos_is_one_episode_a_video(videos):
    episodes = read(videos)
    assert [(e.name, len(e), e.labelled) for e in episodes] == [
        ("a/clip.mp4", 20, False),
        ("b/clip.mp4", 21, False),
    ]
    assert abs(episodes[1].images([20])[0].astype(int) - drift(21, 1)[20]).mean() < 3


def test_suffixes_of_videos_may_be_of_phones_and_in_capitals(videos):
    (videos / "a/clip.mp4").rename(videos / "a/IMG_1.MOV")
    assert [episode.name for episode in read(videos)] == ["a/IMG_1.MOV", "b/clip.mp4"]


def test_an_episode_without_actions_has_nothing_that_is_not_finite(videos):
    episode = read(videos, size=(40, 30))[0]
    camera = Camera(episode.camera.intrinsics[None], episode.camera.world_from_camera[None])
    torch.testing.assert_close(project(episode.position, camera), episode.pixel)
    torch.testing.assert_close(episode.pixel[0], torch.tensor([15.0, 20.0]))
    assert not episode.in_view.any()


def test_sources_of_every_kind_come_in_order_and_at_one_size(rollouts, videos):
    episodes = read(videos, rollouts, LEROBOT, size=(SIZE, SIZE))
    assert [e.source for e in episodes] == [videos] * 2 + [rollouts] * 3 + [LEROBOT] * 2
    assert {e.images([0]).shape for e in episodes} == {(1, SIZE, SIZE, 3)}


@pytest.fixture
def front(tmp_path: Path) -> Path:
    """A file whose camera has another name."""
    file = write(tmp_path / "front.hdf5")
    with h5py.File(file, "a") as data:
        for demo in data["data"].values():
            demo.move("obs/agentview_rgb", "obs/front_rgb")
            demo.move("camera/agentview", "camera/front")
    return file


def test_every_source_may_have_a_camera_of_its_own(rollouts, front, videos):
    with pytest.raises(UserError, match=r"no camera 'agentview'; it has \['front'\]"):
        read(rollouts, front)
    one, other = read(rollouts), read(front, camera="front")
    both = read(rollouts, videos, front, camera=("agentview", "none", "front"))
    for found, expected in zip(both[:3] + both[5:], one + other, strict=True):
        assert np.array_equal(found.images([2]), expected.images([2]))
        assert found.frames.fingerprint() == expected.frames.fingerprint()


@pytest.mark.parametrize("cameras", [(), ("agentview",) * 3])
def test_cameras_that_do_not_fit_the_sources_are_named(rollouts, cameras):
    with pytest.raises(UserError, match=rf"names {len(cameras)} cameras .* for 2 data\.rollouts"):
        read(rollouts, LEROBOT, camera=cameras)


def test_data_that_are_named_twice_are_refused(rollouts, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link.hdf5").symlink_to(rollouts)
    source = describe(tmp_path / "same.yaml", path=rollouts)
    for other in (rollouts, tmp_path / "folder/../rollouts.hdf5", tmp_path / "link.hdf5", source):
        with pytest.raises(
            UserError, match=r"names the same data twice.*held-out episodes would be trained on"
        ):
            read(rollouts, other)


def test_a_source_inside_another_is_refused(rollouts, videos):
    for inner, outer in ((rollouts, rollouts.parent), (videos / "a", videos)):
        for both in ((inner, outer), (outer, inner)):
            with pytest.raises(UserError, match=r"names the same data twice"):
                read(*both)


def test_links_to_one_file_are_one_episode_and_linked_folders_are_read(videos, tmp_path):
    (videos / "again.mp4").symlink_to(videos / "a/clip.mp4")
    (tmp_path / "elsewhere").mkdir()
    write_mp4(tmp_path / "elsewhere/other.mp4", drift(22, 3), 20, 10)
    (videos / "linked").symlink_to(tmp_path / "elsewhere")
    (videos / "linked/circle").symlink_to(videos)
    assert sorted(len(e) for e in read(videos)) == [20, 21, 22]


def test_files_of_one_stem_keep_their_own_demos(tmp_path):
    folder = tmp_path / "suite"
    folder.mkdir()
    for name in ("a.h5", "a.hdf5"):
        write(folder / name)
    episodes = read(folder)
    assert len({episode.name for episode in episodes}) == 6
    with pytest.raises(AssertionError, match="share a name"):
        clips_of([replace(episode, name="demo") for episode in episodes], tmp_path / "cache")


@pytest.mark.parametrize("nested", [False, True])
def test_a_dataset_that_lost_its_description_is_not_plain_video(tmp_path, nested):
    folder = Path(shutil.copytree(LEROBOT, tmp_path / "datasets/one"))
    if not nested:
        (folder / "meta/info.json").unlink()
    with pytest.raises(
        UserError, match=r"is a LeRobotDataset" + ("; name" if nested else " whose meta/info.json")
    ):
        read(folder.parent if nested else folder)


@pytest.mark.parametrize("settings", [{"size": (0, 0)}, {"fps": 0.0}, {"fps": -1.0}, {"fps": float("nan")}])
def test_sizes_and_rates_that_are_none_are_named(rollouts, settings):
    with pytest.raises(UserError, match=r"--data\.(size|fps) .* above 0"):
        read(rollouts, **settings)


def test_a_camera_may_be_named_by_its_feature(tmp_path):
    plain, named = read(LEROBOT), read(LEROBOT, camera="observation.images.agentview")
    assert [e.labelled for e in named] == [True, True]
    torch.testing.assert_close(named[0].pixel, plain[0].pixel)
    with pytest.raises(UserError, match=r"nothing\.yaml, .* does not exist"):
        read(LEROBOT, cameras=tmp_path / "nothing.yaml")


def describe(file: Path, **settings) -> Path:
    """A source's YAML file."""
    file.write_text(
        yaml.dump(
            {name: value if isinstance(value, dict) else str(value) for name, value in settings.items()}
        )
    )
    return file


def test_a_source_in_a_file_has_settings_of_its_own(rollouts, front, tmp_path):
    """What it leaves out is the default, not what the configuration says of the other sources."""
    described = describe(tmp_path / "front.yaml", path=front, camera="front")
    state = {"position": "observation.state", "gripper_open": 1, "gripper_closed": -1}
    inverted = describe(tmp_path / "inverted.yaml", path=LEROBOT, lerobot=state)
    both = read(rollouts, described, inverted, size=(SIZE, SIZE), lerobot=LeRobotConfig(position="nothing"))
    assert {e.source for e in both} == {rollouts, described, inverted}
    plain = read(LEROBOT, size=(SIZE, SIZE))
    for found, expected in zip(both[-2:], plain, strict=True):
        torch.testing.assert_close(found.gripper, 1 - expected.gripper)
        assert np.array_equal(found.images([3]), expected.images([3]))
    with pytest.raises(UserError, match=r"no column 'nothing'"):
        read(LEROBOT, lerobot=LeRobotConfig(position="nothing"))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"camera": "front"}, "must say its path"),
        ({"path": "other.yaml"}, "must say its path"),
        ({"path": "a", "cammera": "front"}, "unknown key 'cammera'; did you mean 'camera'"),
        ({"path": "a", "lerobot": {"positon": "a"}}, "did you mean 'lerobot.position'"),
        ({"path": "nowhere"}, "source.yaml does not exist: nowhere"),
    ],
)
def test_a_source_file_that_says_something_else_is_named(tmp_path, settings, words):
    with pytest.raises(UserError, match=re.escape(words)):
        read(describe(tmp_path / "source.yaml", **settings))


def test_a_folder_of_files_is_one_source_of_all_their_tasks(rollouts, tmp_path):
    folder = tmp_path / "suite"
    folder.mkdir()
    for name in ("pour_the_tea_demo", "open_the_drawer_demo"):
        write(folder / f"{name}.hdf5")
    (folder / "._pour_the_tea_demo.hdf5").write_bytes(b"left by another system")
    episodes = read(folder)
    assert [e.name for e in episodes] == [
        f"{file}.hdf5/{e.name}"
        for file in ("open_the_drawer_demo", "pour_the_tea_demo")
        for e in read(rollouts)
    ]
    assert {e.task for e in episodes} == {"pour the tea", "open the drawer"}
    assert {e.source for e in episodes} == {folder}
    clips_of(episodes, tmp_path / "cache")
    for found, expected in zip(episodes, read(rollouts) * 2, strict=True):
        assert np.array_equal(found.images([5]), expected.images([5]))
        assert np.array_equal(read_actions(found), read_actions(expected))
    (folder / "open_the_drawer_demo.hdf5").write_bytes(b"cut")
    assert len(read(folder, on_error="skip")) == 3
    with pytest.raises(UserError, match=r"open_the_drawer_demo\.hdf5 is not a readable HDF5 file"):
        read(folder)


def test_one_camera_is_written_down_as_it_always_was():
    one = load(CheckConfig, ["--data.camera", "front"])
    assert "  camera: front\n" in dump(one) and one.data.camera == "front"
    two = load(CheckConfig, ["--data.camera", "front", "side", "--data.rollouts", "a", "b"])
    assert two.data.camera == ("front", "side")


def test_a_written_configuration_with_several_cameras_is_read_back(tmp_path):
    two = load(CheckConfig, ["--data.camera", "front", "side"])
    (tmp_path / "config.yaml").write_text(dump(two))
    assert load(CheckConfig, [str(tmp_path / "config.yaml")]) == two


def test_images_of_different_sizes_are_refused(rollouts):
    with pytest.raises(UserError, match=r"mix image sizes: \(32, 32\) in .*demo_2, \(64, 64\).*--data.size"):
        read(rollouts, LEROBOT)


@pytest.mark.parametrize(
    ("name", "found"),
    [("nothing", "does not exist"), ("empty", "a folder without them"), ("a.txt", "another file")],
)
def test_anything_else_is_one_error_that_names_the_three(tmp_path, name, found):
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.txt").write_text("text")
    with pytest.raises(UserError, match=rf"{name} .*{found}; it takes LIBERO HDF5.*LeRobotDataset.*videos"):
        read(tmp_path / name)


def test_a_dataset_on_the_hub_is_downloaded(monkeypatch):
    asked = []
    monkeypatch.setattr(lerobot, "snapshot_download", lambda *a, **k: asked.append((a, k)) or str(LEROBOT))
    source = Path("hf://owner/name")
    assert [e.source for e in read(source)] == [source] * 2
    ((words, settings),) = asked
    assert words == ("owner/name",) and settings["repo_type"] == "dataset"
    patterns = settings["allow_patterns"]
    for folder in (LEROBOT, LEROBOT.with_name("v2.1")):  # all that is read, and no other camera's videos
        files = [str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()]
        assert list(filter_repo_objects(files, allow_patterns=patterns)) == files
        others = [file.replace("agentview", "wrist") for file in files]
        assert not [file for file in filter_repo_objects(others, allow_patterns=patterns) if "wrist" in file]
    assert cache_folder(DataConfig(rollouts=(source,))) == Path("data/latents")


def test_a_dataset_that_the_hub_does_not_have_is_named():
    with pytest.raises(UserError, match=r"cannot download dataset owner/name"):
        read(Path("hf://owner/name"))


def test_an_episode_shorter_than_a_clip_ends_the_start_or_is_left_out(rollouts, tmp_path, capsys):
    write_mp4(tmp_path / "videos/short.mp4", drift(3, 0), 20, 10)
    write_mp4(tmp_path / "videos/long.mp4", drift(30, 1), 20, 10)
    settings = {
        "rollouts": (tmp_path / "videos", rollouts),
        "validation_demos": 1,
        "cache": tmp_path / "cache",
    }
    config = DataConfig(**settings, size=(SIZE, SIZE))
    with pytest.raises(UserError, match=r"short\.mp4 has 3 frames, a clip of 7 .* --data\.on_error skip"):
        build_clips(config, read_sources(config), Pixels(), ZeroContext(4))
    config = replace(config, on_error="skip")
    clips, _ = build_clips(config, read_sources(config), Pixels(), ZeroContext(4))
    assert {episode.name for episode in clips.episodes} == {"demo_0", "demo_1", "long.mp4"}
    assert "short.mp4 has 3 frames" in capsys.readouterr().err


def test_episodes_without_labels_come_last_and_their_clips_have_none(rollouts, videos, tmp_path):
    episodes = read(videos, rollouts)  # the videos first
    for without in (0, 2):
        clips = clips_of(episodes, tmp_path / "latents", unlabelled=without)
        assert clips.labelled == (3 - without) * FRAMES and len(clips) == 3 * FRAMES + 41
        valid = torch.tensor([bool(clips[i].actions.valid.any()) for i in range(len(clips))])
        assert labelled(clips) == clips.labelled  # what pictures of the training show
        ends = torch.arange(len(clips)) % FRAMES >= FRAMES - 3  # no label past the end
        assert torch.equal(valid, (torch.arange(len(clips)) < clips.labelled) & ~ends)


def test_a_clip_of_video_holds_the_videos_frames(rollouts, videos, tmp_path):
    episodes = read(rollouts, videos)
    clips = clips_of(episodes, tmp_path / "latents")
    images = episodes[-1].images([5, 8, 11, 14])
    torch.testing.assert_close(
        clips[3 * FRAMES + 20 + 5].latents, to_float(images)[:, :, ::8, ::8].half().float()
    )


def test_only_demos_with_labels_are_counted_held_out_and_chosen(rollouts, videos):
    episodes = read(rollouts, videos)
    found = split(episodes, DataConfig(validation_demos=1, demos=1))
    assert [[e.name for e in part] for part in found] == [
        ["demo_0"], ["demo_1", "a/clip.mp4", "b/clip.mp4"], ["demo_2"],
    ]  # fmt: skip


def test_videos_alone_are_split_like_demos(videos):
    found = split(read(videos), DataConfig(validation_demos=1))
    assert [[e.name for e in part] for part in found] == [["a/clip.mp4"], [], ["b/clip.mp4"]]


def test_the_workspace_is_that_of_the_episodes_with_labels(rollouts, videos):
    assert workspace(read(videos, rollouts)) == workspace(read(rollouts))
    with pytest.raises(UserError, match="video without poses"):
        workspace(read(videos))


def test_one_clock_takes_what_was_recorded_nearest(rollouts, videos):
    """Rollouts have 20 moments a second; frame i of the path stands i / 23 of its length from its beginning."""
    recorded, halved, thirty = (read(rollouts, fps=fps)[0] for fps in (20, 10, 30))
    assert torch.equal(halved.position, recorded.position[::2]) and len(halved) == FRAMES // 2
    assert np.array_equal(halved.images([5, 2]), recorded.images([10, 4]))
    nearest = (np.arange(len(thirty)) * 2 / 3).round().astype(int)
    assert len(thirty) == 35 and torch.equal(thirty.position, recorded.position[nearest])
    assert torch.equal(thirty.pixel, recorded.pixel[nearest]) and thirty.rate == pytest.approx(30)
    assert halved.frames.fingerprint() != thirty.frames.fingerprint() != recorded.frames.fingerprint()
    video = read(videos, fps=5.0)[1]
    assert np.array_equal(video.images(), read(videos)[1].images()[::4]) and not video.labelled


def test_sources_of_different_rates_are_told_of_once(rollouts, tmp_path, capsys):
    for seed in range(2):
        write_mp4(tmp_path / f"fast/{seed}.mp4", drift(30, seed), 30, 10)
    read(rollouts)
    assert not capsys.readouterr().err
    read(rollouts, tmp_path / "fast")
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "20 in" in said and "30 in" in said and "--data.fps" in said
    assert {round(e.rate) for e in read(rollouts, tmp_path / "fast", fps=15.0)} == {15}


def test_a_renamed_or_changed_video_is_encoded_anew(videos, tmp_path):
    keys = {episode.frames.fingerprint() for episode in read(videos)}
    (videos / "b").rename(videos / "c")
    write_mp4(videos / "a/clip.mp4", drift(22, 5), 20, 10)
    assert len(keys | {episode.frames.fingerprint() for episode in read(videos)}) == 4


def test_what_cannot_be_read_is_skipped_by_name_and_count_when_that_is_asked_for(tmp_path, capsys):
    file = write(tmp_path / "rollouts.hdf5")
    with h5py.File(file, "a") as data:
        data["data/demo_1/obs/site_pos"][3] = np.nan
    config = DataConfig(rollouts=(tmp_path / "absent.hdf5", file))
    with pytest.raises(UserError, match=r"absent\.hdf5 does not exist"):
        read_sources(config)
    names = [episode.name for episode in read_sources(replace(config, on_error="skip"))]
    assert names == ["demo_0", "demo_2"]
    said = capsys.readouterr().err
    assert "skipped: " in said and "absent.hdf5" in said and "demo_1 has a non-finite" in said
    assert said.count("were skipped") == 2
    with pytest.raises(UserError, match=r"no episode of .*absent\.hdf5 can be read"):
        read_sources(DataConfig(rollouts=(tmp_path / "absent.hdf5",), on_error="skip"))


def test_tasks_choose_episodes_by_their_instruction(tmp_path: Path):
    push, pull = (write(tmp_path / f"{verb}_the_line_demo.hdf5") for verb in ("push", "pull"))
    config = DataConfig(rollouts=(push, pull))
    assert {episode.source for episode in read_sources(replace(config, tasks=("Pull the",)))} == {pull}
    assert len(read_sources(replace(config, tasks=("push", "PULL")))) == len(read_sources(config))
    with pytest.raises(UserError, match=r"'lift' is in no .*there are: pull the line; push the line"):
        read_sources(replace(config, tasks=("push", "lift")))


@pytest.mark.parametrize("fps", [10, 15, 30, 50])
def test_times_of_single_precision_lose_no_frame(fps):
    """LeRobot's timestamps are float32: at a dataset's own rate it is the same episode, at half of it half."""
    whole = read(LEROBOT)[0]
    for length in range(2, len(whole)):
        times = (np.arange(length) / fps).astype(np.float32).astype(np.float64)
        kept = ("position", "rotation", "opening", "gripper", "pixel", "in_view")
        episode = replace(whole, times=times, **{name: getattr(whole, name)[:length] for name in kept})
        assert at_rate(episode, fps) is episode
        assert len(at_rate(episode, fps / 2)) == (length + 1) // 2


def test_a_link_from_one_source_into_another_is_refused(tmp_path):
    for folder in ("suite", "mix"):
        (tmp_path / folder).mkdir()
    for name in ("a", "b"):
        write(tmp_path / f"suite/{name}.hdf5")
    (tmp_path / "mix/same.hdf5").symlink_to(tmp_path / "suite/b.hdf5")
    assert len(read(tmp_path / "mix")) == 3
    with pytest.raises(UserError, match=r"suite/b.hdf5 belongs to .*suite and, by a link, to .*mix"):
        read(tmp_path / "suite", tmp_path / "mix")


def test_an_error_about_a_described_source_names_its_file_and_not_a_flag(tmp_path):
    kitchen = tmp_path / "kitchen.yaml"
    kitchen.write_text(yaml.safe_dump({"path": str(LEROBOT), "lerobot": {"position": "observation.pose"}}))
    with pytest.raises(UserError, match=r"set 'lerobot: position' in .*kitchen.yaml"):
        read(kitchen)
    kitchen.write_text(yaml.safe_dump({"path": str(LEROBOT), "camera": "front"}))
    with pytest.raises(UserError, match=r"set 'camera' in .*kitchen.yaml"):
        read(kitchen)


def test_a_name_on_the_hub_has_two_parts(tmp_path):
    with pytest.raises(UserError, match=r"does not exist; .*hf://OWNER/NAME"):
        read(Path("hf://a/b/c"))


def test_stage_two_says_if_it_holds_out_what_stage_one_trained_on(rollouts, tmp_path, capsys):
    """Beside a second source another share of the first one is held out."""
    other = write(tmp_path / "other.hdf5")
    both = split(read(rollouts, other), DataConfig(validation_demos=2))
    alone = split(read(rollouts), DataConfig(validation_demos=2))
    note_seen(tmp_path, both.training)
    warn_of_seen(tmp_path, both.held_out)
    warn_of_seen(tmp_path / "elsewhere", alone.held_out)
    assert capsys.readouterr().err == ""
    warn_of_seen(tmp_path, alone.held_out)
    assert "1 of the 2 demos that are held out were trained on" in capsys.readouterr().err
    assert str(tmp_path) not in (tmp_path / "trained_on.txt").read_text()
