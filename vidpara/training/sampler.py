"""Which samples a step trains on, and with which random state: pure functions of (seed, step, rank).

Position p of an endless stream of samples is element p mod n of the permutation of epoch p div n. What an update takes
of it is a contiguous piece, cut among micro-steps and processes; two processes with batch b, or two micro-steps,
therefore see what one process with batch 2b sees.
"""

from __future__ import annotations

import functools
import os
import random
import signal
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from vidpara.config import TrainerConfig
from vidpara.cores import cores
from vidpara.types import Part

_SAMPLE, _STEP, _VALIDATION, _PIECE = range(4)


class Draw(NamedTuple):
    """One sample to fetch: its index in the dataset, and its position in the run, which seeds its randomness."""

    index: int
    position: int


class Piece(NamedTuple):
    """The dataset's samples `first` to `end`, and how often they are drawn beside other pieces."""

    first: int
    end: int
    weight: float = 1.0


class Share(NamedTuple):
    """Part of the whole batch of an update, that of all processes and micro-steps: so many samples, drawn from these
    pieces of the dataset.

    Of one piece every sample comes once an epoch. Of several, a piece is drawn by weight for each sample, and then any
    of its samples.
    """

    samples: int
    pieces: tuple[Piece, ...]


def length_of(dataset: Dataset) -> int:
    """Samples in a map-style dataset, whose base class has no `len`."""
    return len(dataset)  # pyright: ignore[reportArgumentType]


class BatchSampler(Sampler[list[Draw]]):
    """The batches of one process from step `start` to `config.steps`, one a micro-step.

    The whole batch of an update is made of one share or two. Each is cut as evenly as it goes among the micro-batches,
    and comes in its turn in each of them; which samples it holds does not depend on the cut. Shares of the same pieces
    are drawn from one stream.
    """

    def __init__(
        self, shares: Sequence[Share], config: TrainerConfig, *, start: int = 0, rank: int = 0, ranks: int = 1
    ) -> None:
        self.pieces = config.accumulate * ranks
        self.size = self.pieces * config.batch_size
        assert len(shares) <= 2 and sum(share.samples for share in shares) == self.size
        self.streams = len({share.pieces for share in shares})
        self.shares, self.config, self.start, self.rank, self.ranks = shares, config, start, rank, ranks

    def __iter__(self) -> Iterator[list[Draw]]:
        for step in range(self.start, self.config.steps):
            for micro in range(self.config.accumulate):
                yield self.batch(step, micro)

    def __len__(self) -> int:
        return (self.config.steps - self.start) * self.config.accumulate

    def batch(self, step: int, micro: int) -> list[Draw]:
        """What this process trains on in micro-step `micro` of `step`."""
        (begin, end), size = self._of_first(micro), self.config.batch_size
        before = size * self._piece(micro)
        spans = [(begin, end), (before - begin, before + size - end)]
        return [
            self._draw(step, which, place)
            for which, span in enumerate(spans[: len(self.shares)])
            for place in range(*span)
        ]

    def part(self, micro: int) -> Part | None:
        """How much of the batch in micro-step `micro` is of the first of two shares."""
        begin, end = self._of_first(micro)
        return Part(end - begin, self.shares[0].samples / self.pieces) if len(self.shares) == 2 else None

    def _piece(self, micro: int) -> int:
        return micro * self.ranks + self.rank

    def _of_first(self, micro: int) -> tuple[int, int]:
        """Which of the first share's samples this micro-batch has. What does not divide comes early, so that a running
        mean of losses does not begin with none."""
        piece = self._piece(micro)
        begin, end = (-(-count * self.shares[0].samples // self.pieces) for count in (piece, piece + 1))
        return begin, end

    def _draw(self, step: int, which: int, place: int) -> Draw:
        """Sample `place` of a share in the whole batch of `step`."""
        if self.streams < len(self.shares):
            which, position = 0, step * self.size + which * self.shares[0].samples + place
        else:
            position = step * self.shares[which].samples + place
        return Draw(self.index(which, position), position * self.streams + which)

    def index(self, which: int, position: int) -> int:
        """Dataset index at `position` of a share's stream."""
        pieces, seed = self.shares[which].pieces, self.config.seed
        if len(pieces) != 1:
            generator = np.random.default_rng((seed, _PIECE, which, position))
            piece = pieces[int(_cumulative(pieces).searchsorted(generator.random(), side="right"))]
            return int(generator.integers(piece.first, piece.end))
        first, end, _ = pieces[0]
        epoch, place = divmod(position, end - first)
        return first + int(_permutation((seed, epoch, *[which] * bool(which)), end - first)[place])


def train_loader(dataset: Dataset, sampler: BatchSampler, *, pin: bool) -> DataLoader:
    """Loader of the run's remaining batches."""
    seeded = _Seeded(dataset, (sampler.config.seed, _SAMPLE))
    return _loader(seeded, sampler, sampler.config, pin)


def validation_loader(
    dataset: Dataset, config: TrainerConfig, *, rank: int, ranks: int, pin: bool
) -> tuple[list[list[Draw]], DataLoader]:
    """This process's share of the validation batches, in order, and their loader.

    They have four samples at least: a model that uses the samples of a batch in two ways cannot do so with one.
    """
    draws = [Draw(index, index) for index in range(length_of(dataset))]
    size = max(4, config.batch_size)
    batches = [draws[first : first + size] for first in range(0, len(draws), size)][rank::ranks]
    seeded = _Seeded(dataset, (config.seed, _VALIDATION))
    return batches, _loader(seeded, batches, config, pin)


def seed_step(config: TrainerConfig, rank: int, step: int, micro: int) -> None:
    """Random state (torch, CUDA, numpy, Python) of one micro-step."""
    _seed((config.seed, _STEP, rank, step, micro))


def seed_validation(config: TrainerConfig, first: int) -> None:
    """Random state of the validation batch whose first sample is `first`: the same each time, on any process."""
    _seed((config.seed, _VALIDATION, first))


class _Seeded(Dataset):
    """Seeds the CPU generators before each sample, so that augmentation depends on neither workers nor resuming."""

    def __init__(self, dataset: Dataset, key: tuple[int, ...]) -> None:
        self.dataset, self.key = dataset, key

    def __getitem__(self, draw: Draw) -> Any:
        _seed_processor((*self.key, draw.position))
        return self.dataset[draw.index]


def _loader(dataset: Dataset, batches: Any, config: TrainerConfig, pin: bool) -> DataLoader:
    """At most one worker a core, which the processes of a machine share: more only stall one another."""
    return DataLoader(
        dataset,
        batch_sampler=batches,
        num_workers=min(config.workers, max(1, len(cores()) // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))),
        pin_memory=pin,
        worker_init_fn=_leave_signals,
    )


def _leave_signals(worker: int) -> None:
    """Ctrl-C reaches every process of a terminal, a launcher's or Slurm's SIGTERM every process of a job; the trainer
    answers them, and needs its workers until then. They end with it.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _seed(key: Sequence[int]) -> None:
    number = _seed_processor(key)
    if torch.cuda.is_available():
        torch.cuda.manual_seed_all(number)


def _seed_processor(key: Sequence[int]) -> int:
    """Not torch.manual_seed: without a GPU it records the call stack each time, which takes two milliseconds."""
    number = int(np.random.SeedSequence(key).generate_state(1)[0])
    torch.default_generator.manual_seed(number)
    np.random.seed(number)
    random.seed(number)
    return number


@functools.lru_cache(maxsize=4)
def _cumulative(pieces: tuple[Piece, ...]) -> np.ndarray:
    """Probability of each piece or one before it: what `Generator.choice` makes of the weights at every draw."""
    weights = np.array([piece.weight for piece in pieces])
    cumulative = (weights / weights.sum()).cumsum()
    return cumulative / cumulative[-1]


@functools.lru_cache(maxsize=4)
def _permutation(key: tuple[int, ...], length: int) -> np.ndarray:
    return np.random.default_rng(key).permutation(length)
