"""The cores that are counted are those that may be used."""

from __future__ import annotations

import os

import pytest
from training.tiny import Points

from vidpara.config import TrainerConfig
from vidpara.cores import cores
from vidpara.simulation import workers
from vidpara.training.sampler import BatchSampler, Piece, Share, train_loader


@pytest.fixture
def pinned(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """This process as if it were held to three cores of a larger machine."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {7, 2, 5})
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    return [2, 5, 7]


def test_only_the_allowed_cores_count(pinned: list[int], monkeypatch: pytest.MonkeyPatch):
    assert cores() == pinned and workers.count(0) == 3
    monkeypatch.delattr(os, "sched_getaffinity")  # as on a Mac
    assert cores() == list(range(64))


@pytest.mark.parametrize(("processes", "expected"), [(1, 3), (2, 1), (8, 1)])
def test_the_processes_of_a_machine_share_its_cores_among_their_loader_workers(
    pinned: list[int], monkeypatch: pytest.MonkeyPatch, processes: int, expected: int
):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    config = TrainerConfig(batch_size=2, workers=4)
    sampler = BatchSampler([Share(2, (Piece(0, 5),))], config)
    assert train_loader(Points(5), sampler, pin=False).num_workers == expected
