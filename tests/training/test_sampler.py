"""Which samples each process sees."""

from __future__ import annotations

from collections import Counter

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from training.tiny import Points, Sample

from vidpara.config import TrainerConfig
from vidpara.training.sampler import BatchSampler, Draw, Piece, Share, seed_step, train_loader


def sampler(length: int, *, batch: int = 3, accumulate: int = 1, **where: int) -> BatchSampler:
    config = TrainerConfig(steps=8, batch_size=batch, accumulate=accumulate, seed=7)
    size = batch * accumulate * where.get("ranks", 1)
    return BatchSampler([Share(size, (Piece(0, length),))], config, **where)


@given(length=st.integers(1, 40), epoch=st.integers(0, 3))
def test_every_epoch_holds_every_index_once(length: int, epoch: int):
    stream = sampler(length)
    indices = [stream.index(0, position) for position in range(epoch * length, (epoch + 1) * length)]
    assert sorted(indices) == list(range(length))


def test_epochs_and_seeds_differ():
    stream = [sampler(20).index(0, position) for position in range(40)]
    other = BatchSampler([Share(1, (Piece(0, 20),))], TrainerConfig(seed=8, batch_size=1))
    assert stream[:20] != stream[20:] != [other.index(0, position) for position in range(20, 40)]


@given(
    length=st.integers(1, 40), ranks=st.integers(1, 4), accumulate=st.integers(1, 3), step=st.integers(0, 7)
)
def test_processes_and_micro_steps_cut_one_large_batch(length: int, ranks: int, accumulate: int, step: int):
    pieces = [
        draw
        for micro in range(accumulate)
        for rank in range(ranks)
        for draw in sampler(length, accumulate=accumulate, rank=rank, ranks=ranks).batch(step, micro)
    ]
    assert pieces == sampler(length, batch=3 * ranks * accumulate).batch(step, 0)
    assert len({draw.position for draw in pieces}) == len(pieces)


@given(ranks=st.sampled_from([1, 2, 4]), length=st.integers(1, 9))
def test_each_share_of_a_batch_comes_from_its_part_of_the_dataset(ranks: int, length: int):
    parts = [Share(12, (Piece(0, length),)), Share(4, (Piece(0, 30),))]
    config = TrainerConfig(steps=30, batch_size=16 // ranks)
    draws = [
        BatchSampler(parts, config, rank=rank, ranks=ranks).batch(step, 0)
        for step in range(30)
        for rank in range(ranks)
    ]
    first = [draw.index for batch in draws for draw in batch[: 12 // ranks]]
    others = [draw.index for batch in draws for draw in batch[12 // ranks :]]
    assert set(first) == set(range(length)) and len(first) == 12 * 30
    assert Counter(others) == {index: 4 for index in range(30)}
    assert len({draw.position for batch in draws for draw in batch}) == 16 * 30


def cut(first: int, ends: tuple[int, int], ranks: int, accumulate: int) -> tuple[list[Draw], list[Draw]]:
    """What a whole batch of 24 has of each of two shares, when it is cut; checks that the cut is even."""
    config = TrainerConfig(batch_size=24 // ranks // accumulate, accumulate=accumulate)
    shares = [Share(size, (Piece(0, end),)) for size, end in zip((first, 24 - first), ends, strict=True)]
    found: tuple[list[Draw], list[Draw]] = ([], [])
    counts = []
    for rank in range(ranks):
        sampler = BatchSampler(shares, config, rank=rank, ranks=ranks)
        for micro in range(accumulate):
            batch, part = sampler.batch(3, micro), sampler.part(micro)
            assert part and len(batch) == config.batch_size and part.mean == first / ranks / accumulate
            found[0].extend(batch[: part.count])
            found[1].extend(batch[part.count :])
            counts.append(part.count)
    assert max(counts) - min(counts) <= 1
    return found


@given(
    first=st.integers(1, 23), pieces=st.sampled_from([(2, 1), (1, 4), (3, 2), (4, 6)]),
    ends=st.sampled_from([(5, 30), (30, 30)]),
)  # fmt: skip
def test_each_share_of_a_step_is_the_same_however_it_is_cut(
    first: int, pieces: tuple[int, int], ends: tuple[int, int]
):
    """Into up to 24 micro-batches of one sample, of which each is of one share alone."""
    whole, parts = cut(first, ends, 1, 1), cut(first, ends, *pieces)
    for ours, theirs in zip(whole, parts, strict=True):
        assert sorted(ours) == sorted(theirs)
    assert (len(whole[0]), len(whole[1])) == (first, 24 - first)


def test_two_shares_of_the_same_samples_are_one_stream():
    config = TrainerConfig(batch_size=8, seed=7)
    one = BatchSampler([Share(8, (Piece(0, 20),))], config)
    two = BatchSampler([Share(5, (Piece(0, 20),)), Share(3, (Piece(0, 20),))], config)
    assert [two.batch(step, 0) for step in range(6)] == [one.batch(step, 0) for step in range(6)]
    assert two.part(0) == (5, 5.0) and one.part(0) is None


def test_pieces_are_drawn_by_weight_whatever_their_length():
    pieces = (Piece(0, 10), Piece(10, 1000, weight=3.0))
    stream = BatchSampler([Share(2, pieces)], TrainerConfig(batch_size=2))
    drawn = [stream.index(0, position) for position in range(4000)]
    assert set(drawn) >= set(range(10)) and max(drawn) < 1000
    assert abs(sum(index < 10 for index in drawn) / 4000 - 0.25) < 0.03
    assert drawn[:50] == [stream.index(0, position) for position in range(50)]


@given(weights=st.lists(st.floats(0.01, 100), min_size=2, max_size=6))
def test_draws_by_weight_are_numpys_choice(weights: list[float]):
    """Trainings on disk were drawn so, and are resumed."""
    pieces = tuple(Piece(10 * i, 10 * i + 7, weight) for i, weight in enumerate(weights))
    stream = BatchSampler([Share(1, pieces)], TrainerConfig(batch_size=1, seed=7))
    for position in range(20):
        generator = np.random.default_rng((7, 3, 0, position))
        chances = np.array(weights) / np.array(weights).sum()
        piece = pieces[int(generator.choice(len(pieces), p=chances))]
        assert stream.index(0, position) == int(generator.integers(piece.first, piece.end))


@given(start=st.integers(0, 8))
def test_a_resumed_sampler_gives_the_rest_of_the_batches(start: int):
    whole, rest = sampler(10, accumulate=2), sampler(10, accumulate=2, start=start)
    assert list(rest) == list(whole)[2 * start :]
    assert len(rest) == len(list(rest))


def test_a_dataset_smaller_than_a_batch_fills_it():
    assert Counter(draw.index for draw in sampler(2, batch=6).batch(0, 0)) == {0: 3, 1: 3}


def test_augmentation_depends_on_neither_workers_nor_the_first_step():
    def batches(workers: int, start: int) -> list[Sample]:
        config = TrainerConfig(steps=4, batch_size=3, workers=workers)
        torch.rand(workers + start)  # the state before the run must not matter
        return list(
            train_loader(
                Points(5, jitter=1.0),
                BatchSampler([Share(3, (Piece(0, 5),))], config, start=start),
                pin=False,
            )
        )

    whole, rest, worker = batches(0, 0), batches(0, 2), batches(1, 2)
    for expected, *others in zip(whole[2:], rest, worker, strict=True):
        assert all(torch.equal(expected.inputs.x, other.inputs.x) for other in others)
    assert not torch.equal(whole[0].inputs.x[0], whole[1].inputs.x[0])


def test_random_state_differs_by_rank_step_and_micro_step():
    config = TrainerConfig()
    draws = set()
    for key in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)):
        seed_step(config, *key)
        draws.add(float(torch.rand(())))
    assert len(draws) == 4
    seed_step(config, 0, 0, 1)
    assert float(torch.rand(())) in draws
