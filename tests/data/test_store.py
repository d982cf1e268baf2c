"""Whole caches of latents, from one machine's folder to another's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from vidpara.cli import UserError
from vidpara.config import DataConfig
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


def test_another_machine_fetches_what_one_has_encoded(tmp_path: Path):
    url = f"file://{tmp_path}/store"
    here = cached(tmp_path / "here", url)
    there = cached(tmp_path / "there", url, refuse)
    assert here.first == there.first
    assert np.array_equal(here.latents, there.latents) and np.array_equal(here.context, there.context)
    assert not list((tmp_path / "there").glob("*.part"))
    cached(tmp_path / "there", f"file://{tmp_path}/other", refuse)  # a cache from before there was a store
    assert len(list((tmp_path / "other").glob("*/index.json"))) == 1


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
