"""What a start opens, and what becomes of videos that turn out to be unreadable when their frames are encoded."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import av
import h5py
import numpy as np
import pytest
import torch

from tests.data.rollout_files import drift, write
from vidpara.build_data import build_clips, build_shares
from vidpara.cli import UserError
from vidpara.config import DataConfig
from vidpara.data import headers
from vidpara.data.latents import cache_frames, some_frames
from vidpara.data.sources import read_sources
from vidpara.evaluation.video import write_mp4
from vidpara.models.autoencoder import Pixels
from vidpara.models.image_encoder import ZeroContext

SAMPLE = Path(__file__).parent / "samples/v2.1"
VIDEO = "videos/chunk-000/observation.images.agentview/episode_000001.mp4"


@pytest.fixture
def opened(monkeypatch) -> Iterator[list[str]]:
    """Names of the video files that are opened."""
    names, real = [], av.open

    def open_and_note(file, *more, **named):
        names.append(Path(file).name)
        return real(file, *more, **named)

    monkeypatch.setattr(av, "open", open_and_note)
    yield names


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SAMPLE, tmp_path / "dataset"))


@pytest.fixture
def videos(tmp_path: Path) -> DataConfig:
    for seed in range(3):
        write_mp4(tmp_path / f"videos/{seed}.mp4", drift(20 + seed, seed), 20, 10)
    return DataConfig(
        rollouts=(tmp_path / "videos",), cache=tmp_path / "cache", validation_demos=1, validation_clips=2
    )


def truncated(file: Path) -> Path:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    return file


def test_a_lerobot_dataset_opens_no_video_before_its_frames_are_read(dataset, opened):
    episodes = read_sources(DataConfig(rollouts=(dataset,)))
    assert not opened and {e.image_size for e in episodes} == {(64, 64)}
    episodes[1].images([3])
    assert opened == ["episode_000001.mp4"]


def test_a_folder_of_videos_is_opened_once_and_then_only_where_it_changed(videos, opened):
    first = read_sources(videos)
    assert set(opened) == {"0.mp4", "1.mp4", "2.mp4"}
    opened.clear()
    again = read_sources(videos)
    assert not opened
    for a, b in zip(first, again, strict=True):
        assert np.array_equal(a.times, b.times) and a.image_size == b.image_size and a.name == b.name
        assert a.frames.fingerprint() == b.frames.fingerprint()
    (folder,) = videos.rollouts
    (folder / "0.mp4").unlink()
    write_mp4(folder / "1.mp4", drift(30, 5), 20, 10)
    opened.clear()
    assert [(e.name, len(e)) for e in read_sources(videos)] == [("1.mp4", 30), ("2.mp4", 22)]
    assert set(opened) == {"1.mp4"}


def test_an_index_that_is_damaged_or_cannot_be_kept_is_done_without(videos, opened, capsys):
    read_sources(videos)
    (index,) = videos.cache.glob("videos-*.parquet")
    truncated(index)
    opened.clear()
    assert len(read_sources(videos)) == 3 and len(opened) > 2
    occupied = replace(videos, cache=index)  # a file where a folder should be
    assert len(read_sources(occupied)) == 3 and "set --data.cache" in capsys.readouterr().err


def test_what_was_opened_before_an_unreadable_video_is_kept(videos, opened):
    (folder,) = videos.rollouts
    bad = truncated(folder / "2.mp4")
    with pytest.raises(UserError, match=r"2\.mp4 .*truncated"):
        read_sources(videos)
    bad.unlink()
    opened.clear()
    assert len(read_sources(videos)) == 2 and not opened


def test_frames_of_another_size_than_the_metadata_say_are_named(dataset):
    info = json.loads((dataset / "meta/info.json").read_text())
    info["features"]["observation.images.agentview"]["shape"] = [128, 64, 3]
    (dataset / "meta/info.json").write_text(json.dumps(info))
    episode = read_sources(DataConfig(rollouts=(dataset,)))[0]
    with pytest.raises(UserError, match=r"episode_000000 have 64 x 64 pixels, the metadata say 128 x 64"):
        episode.images([0])
    (finding,) = headers.check([episode])
    assert finding.verdict == "error" and "(64, 64)" in finding.found
    info["features"]["observation.images.agentview"].pop("shape")
    (dataset / "meta/info.json").write_text(json.dumps(info))
    with pytest.raises(UserError, match=r"info\.json: the shape of 'observation.images.agentview' is None"):
        read_sources(DataConfig(rollouts=(dataset,)))


def damaged_mixture(dataset: Path, tmp_path: Path) -> DataConfig:
    """Two whole demos more than the one whose video is cut off."""
    more = Path(shutil.copytree(SAMPLE, tmp_path / "more"))
    truncated(dataset / VIDEO)
    return DataConfig(rollouts=(more, dataset), cache=tmp_path / "cache", validation_demos=1)


def test_a_truncated_video_ends_the_encoding_before_anything_is_trained_on(dataset, tmp_path):
    config = damaged_mixture(dataset, tmp_path)
    episodes = read_sources(config)
    with pytest.raises(UserError, match=r"dataset/.*episode_000001\.mp4 .*copy"):
        build_clips(config, episodes, Pixels(), ZeroContext(4))
    found = headers.check([e for e in episodes if e.source == dataset])
    assert [f.verdict for f in found] == ["error"] and "1 of 2" in found[0].found and VIDEO in found[0].found


def test_a_truncated_video_is_left_out_named_and_counted_when_that_is_asked_for(dataset, tmp_path, capsys):
    config = replace(damaged_mixture(dataset, tmp_path), on_error="skip")
    episodes = read_sources(config)
    assert len(some_frames(episodes, 8)) == 6
    for _ in range(2):  # encoding, and reading what was encoded
        training, _ = build_clips(config, episodes, Pixels(), ZeroContext(4))
        names = [(e.source, e.name) for e in training.episodes]
        assert names == [(source, "episode_000000") for source in config.rollouts]
        said = capsys.readouterr().err
        assert said.count("skipped: ") == 1 and "episode_000001.mp4" in said and "1 of 2 were skipped" in said
    with pytest.raises(UserError, match=r"episode_000001\.mp4"):  # the cache is there, and does not hide it
        build_clips(replace(config, on_error="error"), episodes, Pixels(), ZeroContext(4))


@pytest.mark.parametrize("damage", ["missing", "no file of it", "episodes", "too short"])
def test_a_whole_source_is_left_out_of_a_mixture_when_that_is_asked_for(tmp_path, capsys, damage):
    """In the middle of three, with weights: training goes on with the other two."""
    before, bad, after = write(tmp_path / "a.hdf5"), tmp_path / "bad.hdf5", tmp_path / "c"
    write_mp4(after / "clip.mp4", drift(30, 0), 20, 10)
    match damage:
        case "no file of it":
            bad.write_bytes(b"no HDF5")
        case "episodes":
            with h5py.File(write(bad, demos=1), "a") as file:
                file["data/demo_0/obs/site_pos"][3] = np.nan
        case "too short":
            write(bad, demos=1, frames=4)
    config = DataConfig(
        rollouts=(before, bad, after), weights=(1.0, 2.0, 3.0), size=(32, 32), validation_demos=1, on_error="skip",
        cache=tmp_path / "cache",
    )  # fmt: skip
    clips, _ = build_clips(config, read_sources(config), Pixels(), ZeroContext(4))
    assert {episode.source for episode in clips.episodes} == {before, after}
    (share,) = build_shares(config, clips, 4, 0, labelled=False)
    assert [piece.weight for piece in share.pieces] == [1.0, 3.0]
    assert "bad.hdf5" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"bad\.hdf5"):
        config = replace(config, on_error="error")
        build_clips(config, read_sources(config), Pixels(), ZeroContext(4))


def test_a_source_of_which_nothing_can_be_read_is_an_error_in_any_case(dataset, tmp_path):
    config = DataConfig(rollouts=(dataset,), validation_demos=1, cache=tmp_path / "cache", on_error="skip")
    for file in sorted(dataset.rglob("*.mp4")):
        truncated(file)
    episodes = read_sources(config)
    with pytest.raises(UserError, match=r"episode_000000\.mp4"):
        some_frames(episodes, 8)
    with pytest.raises(UserError, match=r"no episode can be read; .*episode_000000\.mp4"):
        build_clips(config, episodes, Pixels(), ZeroContext(4))


def test_a_read_error_is_not_taken_for_one_of_writing(tmp_path, monkeypatch):
    file = write(tmp_path / "rollouts.hdf5")
    episodes = read_sources(DataConfig(rollouts=(file,)))

    def fail(*_):
        raise OSError("Can't synchronously read data (wrong checksum)")

    monkeypatch.setattr(h5py.Dataset, "__getitem__", fail)
    with pytest.raises(UserError, match=r"rollouts\.hdf5: the frames of demo_0 cannot be read .*checksum"):
        cache_frames(episodes, lambda x: x, ZeroContext(4), [], tmp_path / "cache")


def test_a_note_that_was_cut_off_loses_only_its_last_line(tmp_path):
    file = write(tmp_path / "rollouts.hdf5")
    episodes, calls = read_sources(DataConfig(rollouts=(file,))), []

    def encode(x: torch.Tensor) -> torch.Tensor:
        calls.append(len(x))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return x[:, :, ::8, ::8]

    folder = tmp_path / "cache"
    with pytest.raises(KeyboardInterrupt):
        cache_frames(episodes, encode, ZeroContext(4), [], folder)
    (note,) = folder.glob("*/finished-*.json")
    os.truncate(note, note.stat().st_size - 3)
    cache_frames(episodes, encode, ZeroContext(4), [], folder)
    assert len(calls) == 3 + 2  # the second demo's line was lost
