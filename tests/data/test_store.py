"""Shards of latents, from one machine's folder to another's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from vidpara.cli import UserError
from vidpara.config import DataConfig
from vidpara.data import store
from vidpara.data.latents import CachedFrames, Encode, cache_frames
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
    monkeypatch.setattr(store, "BLOCK", 1000)
    with pytest.raises(KeyboardInterrupt), monkeypatch.context() as patch:
        patch.setattr(store.tqdm, "update", stop_after(5000))
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
