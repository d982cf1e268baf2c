"""How named losses become one number."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vidpara.cli import UserError
from vidpara.config import LossConfig
from vidpara.training.weighting import LossWeights

CPU = torch.device("cpu")


def bound(config: LossConfig | dict[str, float], *names: str) -> LossWeights:
    weights = LossWeights(config)
    weights.bind(names, CPU)
    return weights


@given(losses=st.lists(st.floats(0.1, 10), min_size=1, max_size=8), decay=st.floats(0.1, 0.99))
def test_a_loss_is_divided_by_its_bias_corrected_running_mean(losses: list[float], decay: float):
    weights = bound(LossConfig(video=3.0, decay=decay), "video")
    for loss in losses:
        factor = weights.update(torch.tensor([loss]))
    shares = [decay ** (len(losses) - 1 - i) for i in range(len(losses))]
    mean = sum(share * loss for share, loss in zip(shares, losses, strict=True)) / sum(shares)
    assert float(factor) == pytest.approx(3.0 / mean, rel=1e-4)


@pytest.mark.parametrize("accumulate", [1, 4])
def test_the_running_mean_decays_by_updates_not_by_micro_steps(accumulate: int):
    """Four micro-steps of one loss are one update of it: what came before counts as much after it."""
    weights = LossWeights(LossConfig(video=1.0, decay=0.9), accumulate)
    weights.bind(("video",), CPU)
    for loss in (2.0, 1.0):
        for _ in range(accumulate):
            factor = weights.update(torch.tensor([loss]))
    assert float(factor) == pytest.approx(1.9 / (0.9 * 2.0 + 1.0), rel=1e-5)


def test_without_normalisation_the_factors_are_the_weights():
    weights = bound({"video": 2.0, "volume": 0.5}, "volume", "video")
    assert weights.update(torch.tensor([7.0, 9.0])).tolist() == [0.5, 2.0]
    assert weights.plain({"volume": 4.0, "video": 3.0}) == 8.0


def test_a_loss_without_a_weight_is_named():
    with pytest.raises(UserError, match="'depth' has no weight"):
        bound(LossConfig(), "video", "depth")


def test_a_batch_with_other_losses_is_an_error():
    weights = bound(LossConfig(), "video", "volume")
    with pytest.raises(UserError, match="returned losses video, and before video, volume"):
        weights.bind(("video",), CPU)


def test_running_means_survive_json_exactly():
    ours, theirs = bound(LossConfig(), "video"), LossWeights(LossConfig())
    ours.update(torch.tensor([1 / 3]))
    theirs.load(json.loads(json.dumps(ours.state())))
    theirs.bind(("video",), CPU)
    assert torch.equal(ours.update(torch.tensor([0.7])), theirs.update(torch.tensor([0.7])))


def test_the_mean_goes_on_where_an_update_has_other_micro_steps_than_before():
    """On other GPUs the same batch is cut otherwise."""
    config = LossConfig(decay=0.9)
    before, after = LossWeights(config, accumulate=2), LossWeights(config, accumulate=1)
    for weights in (before, after):
        weights.bind(("video",), torch.device("cpu"))
    for _ in range(20):  # micro-steps of ten updates
        factor = before.update(torch.tensor([3.0]))
    after.load(json.loads(json.dumps(before.state())))
    torch.testing.assert_close(after.update(torch.tensor([3.0])), factor)
