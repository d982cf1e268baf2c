"""Collections, with the simulator's processes replaced by a coin: which starts are used, and resuming."""

from __future__ import annotations

import dataclasses
from collections.abc import Container
from pathlib import Path

import pytest

from vidpara.cli import UserError
from vidpara.config import CollectConfig
from vidpara.simulation import workers
from vidpara.simulation.record import Attempt, collect

CONFIG = CollectConfig(demos=12)
FAILING = (2, 3, 11, 13)


class PowerCutError(Exception):
    pass


def coin(after: int | None = None, failing: Container[int] = FAILING):
    """A replacement of `workers.run` whose items finish in reverse order; the power fails after some of them."""

    def run(items: list[Attempt], fn, scene, count):
        for place, item in reversed(list(enumerate(items))):
            if after is not None and place < len(items) - after:
                raise PowerCutError
            success = int(item.path.stem) not in failing
            item.path.with_suffix(".hdf5" if success else ".failed").write_text(repr(item.start))
            yield place, success

    return run


def collected(folder: Path, config: CollectConfig = CONFIG) -> tuple[list[str], list[str], int]:
    found = collect(config, folder, save=print)
    return [path.name for path in found.parts], [path.read_text() for path in found.parts], found.attempts


def test_failed_starts_are_replaced_by_the_next_ones(tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "run", coin())
    names, _, attempts = collected(tmp_path)
    assert names == [f"{index:06d}.hdf5" for index in range(16) if index not in FAILING]
    assert attempts == 16


@pytest.mark.parametrize("after", [1, 5, 11])
def test_a_stopped_collection_ends_like_an_uninterrupted_one(tmp_path, monkeypatch, after):
    (tmp_path / "once").mkdir()
    (tmp_path / "stopped").mkdir()
    monkeypatch.setattr(workers, "run", coin())
    once = collected(tmp_path / "once")
    monkeypatch.setattr(workers, "run", coin(after))
    with pytest.raises(PowerCutError):
        collected(tmp_path / "stopped")
    monkeypatch.setattr(workers, "run", coin())
    assert collected(tmp_path / "stopped") == once


def test_a_hopeless_collection_stops_with_words(tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "run", coin(failing=range(100)))
    with pytest.raises(UserError, match="0 of 12 starts"):
        collected(tmp_path)


def test_a_larger_collection_begins_with_the_smaller(tmp_path, monkeypatch):
    (tmp_path / "small").mkdir()
    (tmp_path / "large").mkdir()
    monkeypatch.setattr(workers, "run", coin())
    small = collected(tmp_path / "small")
    large = collected(tmp_path / "large", dataclasses.replace(CONFIG, demos=30))
    assert large[1][:12] == small[1]
