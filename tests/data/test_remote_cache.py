"""Shards of latents, from one machine's folder to another's."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock

from vidpara.cli import UserError
from vidpara.config import DataConfig
from vidpara.data import remote_cache
from vidpara.data.cached_frames import CachedFrames
from vidpara.data.episode import Episode
from vidpara.data.frames import Frames, parts
from vidpara.data.latents import Encode, cache_frames
from vidpara.data.sources import read_sources
from vidpara.models.autoencoder import Pixels
from vidpara.models.image_encoder import ZeroContext

SAMPLE = DataConfig(rollouts=(Path(__file__).parent / "samples/v2.1",))


def cached(folder: Path, url: str, encode: Encode | None = None) -> CachedFrames:
    episodes, models = read_sources(SAMPLE), [Pixels(), ZeroContext(4)]
    return cache_frames(episodes, encode or models[0].encode, models[1], models, folder, shared=url)


def refuse(frames: torch.Tensor) -> torch.Tensor:
    raise AssertionError("encoded again")


@pytest.mark.parametrize(
    "kind", ["file", "memory"]
)  # a disk, and a store of objects that has no folders to speak of
def test_another_machine_fetches_what_one_has_encoded(tmp_path: Path, kind):
    url = f"{kind}://{tmp_path}/store"
    here = cached(tmp_path / "here", url)
    there = cached(tmp_path / "there", url, refuse)
    assert here.first == there.first
    assert np.array_equal(here.latents, there.latents) and np.array_equal(here.context, there.context)
    assert not list((tmp_path / "there").glob("*.part"))
    cached(tmp_path / "there", f"file://{tmp_path}/other", refuse)  # a cache from before there was a store
    assert len(list((tmp_path / "other").glob("*/index.json"))) == 1


def test_a_fetch_that_was_stopped_goes_on_where_it_ended(tmp_path: Path, monkeypatch):
    url = f"file://{tmp_path}/store"
    here = cached(tmp_path / "here", url)
    monkeypatch.setattr(remote_cache, "BLOCK", 1000)
    with pytest.raises(KeyboardInterrupt), monkeypatch.context() as patch:
        patch.setattr(remote_cache.tqdm, "update", stop_after(5000))
        cached(tmp_path / "there", url, refuse)
    (part,) = (tmp_path / "there").glob("*.part")
    (latents,) = part.glob("latents.f16")
    kept = latents.read_bytes()
    assert 0 < len(kept) < here.latents.nbytes
    latents.write_bytes(bytes(len(kept)))  # to be seen again if it is not fetched anew
    there = cached(tmp_path / "there", url, refuse)
    assert there.latents.tobytes() == bytes(len(kept)) + here.latents.tobytes()[len(kept) :]
    assert not part.exists()


def stop_after(count: int) -> Callable[..., None]:
    """Like Ctrl-C while a file is copied, after so many bytes of latents."""
    seen = 0

    def update(bar: object, fetched: int) -> None:
        nonlocal seen
        seen += fetched
        if seen > count:
            raise KeyboardInterrupt

    return update


def test_half_a_cache_is_not_fetched(tmp_path: Path):
    url = f"file://{tmp_path}/store"
    cached(tmp_path / "here", url)
    (index,) = (tmp_path / "store").glob("*/index.json")
    index.unlink()
    with pytest.raises(AssertionError, match="encoded again"):
        cached(tmp_path / "there", url, refuse)


def test_a_store_that_is_none_is_named(tmp_path: Path):
    with pytest.raises(UserError, match=r"--data.store nothing://here: .*nothing"):
        cached(tmp_path / "here", "nothing://here")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot put .* into file://.*; check --data.store"):
        cached(tmp_path / "here", f"file://{tmp_path}/file")


def test_a_fetch_leaves_alone_what_another_run_is_encoding(tmp_path: Path):
    """Both finish: the one that encodes with its own files, the other with what it then finds."""
    url = f"file://{tmp_path}/store"
    here = cached(tmp_path / "here", url)
    shutil.move(tmp_path / "store", tmp_path / "later")
    fetched = []

    def encode(frames: torch.Tensor) -> torch.Tensor:
        """Meanwhile another machine has filled the store, and another run here looks there."""
        if not fetched:
            shutil.move(tmp_path / "later", tmp_path / "store")
            (key,) = (tmp_path / "there").glob("*.lock")
            fetched.append(remote_cache.fetch(key.with_suffix(""), url, FileLock(key)))
        return Pixels().encode(frames)

    found = cached(tmp_path / "there", url, encode)
    assert fetched == [False] and np.array_equal(found.latents, here.latents)


def test_a_cache_that_lacks_an_episode_is_not_put_into_the_store(tmp_path: Path):
    """Others would take it for whole, and it would stay there for ever."""
    url, here, (first, *others) = f"file://{tmp_path}/store", tmp_path / "here", read_sources(SAMPLE)
    models = [Pixels(), ZeroContext(4)]

    def cache(one: Episode) -> CachedFrames:
        parts = (models[0].encode, models[1], models)
        return cache_frames([one, *others], *parts, here, on_error="skip", shared=url)

    lacking = cache(replace(first, frames=Gone(first.frames)))
    assert first.name not in lacking.first and not list((tmp_path / "store").glob("*"))
    assert first.name in cache(first).first
    assert cached(tmp_path / "there", url, refuse).first.keys() == {each.name for each in (first, *others)}


@dataclass(frozen=True)
class Gone:
    """Frames that cannot be read for now, of a disk that comes back: a fake, since real ones stay damaged."""

    frames: Frames

    @property
    def file(self) -> Path:
        return self.frames.file

    def read(self, moments: Sequence[int]) -> np.ndarray:
        raise OSError("the disk does not answer")

    def blocks(self, moments: Sequence[int], size: int) -> Iterator[np.ndarray]:
        return map(self.read, parts(moments, size))

    def fingerprint(self) -> str:
        return self.frames.fingerprint()
