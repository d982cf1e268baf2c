"""Sources whose latents are in several shards: what is made again, fetched, left out, and who reads them."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from tests.data.rollout_files import FRAMES, drift, write
from vidpara.build_data import build_clips
from vidpara.cli import UserError
from vidpara.config import ClipConfig, DataConfig
from vidpara.data import cache_notes as notes
from vidpara.data import shards
from vidpara.data.cached_frames import CachedFrames
from vidpara.data.episode import Episode
from vidpara.data.latents import cache_frames
from vidpara.data.rollouts import read_episodes
from vidpara.data.shards import cache_source
from vidpara.data.sources import read_sources
from vidpara.data.video import VideoFrames
from vidpara.evaluation.video import write_mp4
from vidpara.models.autoencoder import Pixels
from vidpara.models.image_encoder import ZeroContext


@pytest.fixture(autouse=True)
def _two_demos_a_shard(monkeypatch) -> None:
    monkeypatch.setattr(shards, "FRAMES", 2 * FRAMES)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(tmp_path / "rollouts.hdf5", demos=5)


def smaller(frames: torch.Tensor) -> torch.Tensor:
    return frames[:, :, ::8, ::8]


def counted() -> tuple[list[int], Callable[[torch.Tensor], torch.Tensor]]:
    calls: list[int] = []

    def encode(frames: torch.Tensor) -> torch.Tensor:
        calls.append(len(frames))
        return smaller(frames)

    return calls, encode


def of_episodes(episodes: list[Episode], found: dict[str, CachedFrames]) -> Iterator[np.ndarray]:
    for episode in episodes:
        first = found[episode.name].first[episode.name]
        yield found[episode.name].latents[first : first + len(episode)]


def test_shards_hold_what_one_cache_of_all_would(path, tmp_path):
    episodes = read_episodes(path)
    found = cache_source(episodes, smaller, ZeroContext(4), [], tmp_path / "shards")
    whole = cache_frames(episodes, smaller, ZeroContext(4), [], tmp_path / "whole")
    assert len(list((tmp_path / "shards").glob("*/index.json"))) == 3
    assert np.array_equal(np.concatenate(list(of_episodes(episodes, found))), whole.latents)


def test_a_source_that_grows_keeps_its_full_shards(tmp_path):
    for seed in range(6):
        write_mp4(tmp_path / f"videos/{seed}.mp4", drift(FRAMES, seed), 20, 10)
    config, (calls, encode) = DataConfig(rollouts=(tmp_path / "videos",), cache=tmp_path / "cache"), counted()
    for last in (5, 6):
        cache_source(read_sources(config)[:last], encode, ZeroContext(4), [], tmp_path / "cache")
    assert calls == [FRAMES] * (5 + 2)


def test_a_stopped_encoding_has_stored_its_finished_shards(path, tmp_path):
    url, encoded = f"file://{tmp_path}/store", []

    def stop_in_the_second(frames: torch.Tensor) -> torch.Tensor:
        encoded.append(len(frames))
        if len(encoded) == 3:
            raise KeyboardInterrupt
        return smaller(frames)

    episodes = read_episodes(path)
    with pytest.raises(KeyboardInterrupt):
        cache_source(episodes, stop_in_the_second, ZeroContext(4), [], tmp_path / "here", shared=url)
    calls, encode = counted()
    found = cache_source(episodes, encode, ZeroContext(4), [], tmp_path / "there", shared=url)
    assert calls == [FRAMES] * 3 and len(found) == 5


def test_a_shard_of_which_nothing_can_be_read_is_left_out(tmp_path, capsys):
    for seed in range(4):
        write_mp4(tmp_path / f"videos/{seed}.mp4", drift(FRAMES, seed), 20, 10)
    config = DataConfig(rollouts=(tmp_path / "videos",), cache=tmp_path / "cache")
    episodes = read_sources(config)
    for seed in (0, 1):
        (tmp_path / f"videos/{seed}.mp4").write_bytes(b"gone")
    cache = partial(cache_source, episodes, smaller, ZeroContext(4), [], tmp_path / "cache")
    for _ in range(2):  # encoding, and reading what was encoded
        assert set(cache(on_error="skip")) == {"2.mp4", "3.mp4"}
        assert capsys.readouterr().err.count("skipped: ") == 2
    with pytest.raises(UserError, match=r"0\.mp4"):
        cache()


def test_what_could_not_be_read_once_is_tried_again(tmp_path, monkeypatch):
    """A decoder that was not there, or a disk that did not answer, is no reason to leave an episode out for good."""
    for seed in range(3):
        write_mp4(tmp_path / f"videos/{seed}.mp4", drift(FRAMES, seed), 20, 10)
    episodes = read_sources(DataConfig(rollouts=(tmp_path / "videos",)))
    cache = partial(cache_source, episodes, smaller, ZeroContext(4), [])
    blocks = VideoFrames.blocks

    def away(frames: VideoFrames, moments, size) -> Iterator[np.ndarray]:
        if frames.name == "1.mp4":
            raise UserError("the disk does not answer")
        return blocks(frames, moments, size)

    with monkeypatch.context() as patch:
        patch.setattr(VideoFrames, "blocks", away)
        assert set(cache(tmp_path / "twice", on_error="skip")) == {"0.mp4", "2.mp4"}
    twice, once = cache(tmp_path / "twice", on_error="skip"), cache(tmp_path / "once")
    for again, whole in zip(of_episodes(episodes, twice), of_episodes(episodes, once), strict=True):
        assert np.array_equal(again, whole)


def test_which_episodes_there_are_does_not_depend_on_the_clip_of_an_earlier_run(path, tmp_path):
    """A demo that was too short for long clips is trained on with short ones."""
    with h5py.File(path, "a") as file:
        write(tmp_path / "short.hdf5", demos=1, frames=6)
        with h5py.File(tmp_path / "short.hdf5") as short:
            short.copy("data/demo_0", file["data"], "demo_5")
    config = DataConfig(rollouts=(path,), on_error="skip", validation_demos=1, cache=tmp_path / "cache")
    for clip, used in ((ClipConfig(), 4), (ClipConfig(frames=2), 5)):
        config = replace(config, clip=clip)
        clips, held_out = build_clips(config, read_sources(config), Pixels(), ZeroContext(4))
        assert len(clips.episodes) == used and len(held_out)


def test_workers_that_are_not_forked_are_sent_the_place_of_the_latents_and_not_the_latents(path, tmp_path):
    config = DataConfig(rollouts=(path,), validation_demos=1, cache=tmp_path / "cache")
    clips, _ = build_clips(config, read_sources(config), Pixels(), ZeroContext(4))
    latents = sum(file.stat().st_size for file in (tmp_path / "cache").glob("*/latents.f16"))
    sent = pickle.dumps(clips)
    assert len(sent) < latents / 2
    there = pickle.loads(sent)
    assert torch.equal(there[50].latents, clips[50].latents) and len(there) == len(clips)
    assert isinstance(there.frames[0].latents, np.memmap) and there.frames[0] is there.frames[1]


def summed(path: Path, folder: Path, url: str) -> float:
    episodes = read_episodes(path)
    found = cache_source(episodes, smaller, ZeroContext(4), [], folder, shared=url)
    return float(sum(latents.astype(np.float64).sum() for latents in of_episodes(episodes, found)))


def test_processes_that_start_at_once_read_the_same(path, tmp_path):
    """Four that share a disk and a store, none of them told of the others."""
    folder, url = tmp_path / "cache", f"file://{tmp_path}/store"
    one_thread = {
        "initializer": torch.set_num_threads,
        "initargs": (1,),
    }  # a fork has none of its parent's to wait for
    with ProcessPoolExecutor(4, get_context("fork"), **one_thread) as pool:
        sums = list(pool.map(summed, [path] * 4, [folder] * 4, [url] * 4))
    assert len(set(sums)) == 1 and sums[0] == summed(path, tmp_path / "alone", "")
    assert not list(folder.glob("*.part")) and not list(folder.glob("*/finished-*"))


def test_a_copy_that_is_not_whole_or_damaged_does_not_end_another_cache(tmp_path, capsys):
    for name, text in (("fetching.part", "{"), ("damaged", "half of an ind")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "index.json").write_text(text)
    notes.name_stale(tmp_path)
    assert capsys.readouterr().err == ""


def test_what_scales_latents_is_part_of_their_cache_s_name():
    other = Pixels()
    other.condition_scale = 5.0
    assert notes.digest_of([Pixels()]) != notes.digest_of([other])
