"""The PARA volume: targets, losses and decoding."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vidpara.heads.volume import local_mean, peak, soft_cells, volume_loss

BINS, ROWS, COLUMNS = 5, 7, 6
inside = st.tuples(st.floats(0, COLUMNS - 1), st.floats(0, ROWS - 1), st.floats(0, BINS - 1))


def target(column: float, row: float, height: float, hard: bool = False):
    return soft_cells(torch.tensor([[[column, row]]]).float(), torch.tensor([[height]]).float(), hard)


@given(inside)
def test_soft_weights_sum_to_one_and_have_the_point_as_their_mean(point):
    column, row, height = point
    cells = target(column, row, height)
    assert cells.weight.sum().item() == pytest.approx(1, abs=1e-5)
    mean = (cells.weight[..., None] * cells.index).sum(-2)[0, 0]
    assert mean.tolist() == pytest.approx([height, row, column], abs=1e-4)


@given(inside)
def test_the_local_mean_of_a_soft_target_is_the_point_itself(point):
    column, row, height = point
    cells = target(column, row, height)
    probability = torch.zeros(1, 1, BINS, ROWS, COLUMNS)
    for (k, v, u), weight in zip(cells.index[0, 0].tolist(), cells.weight[0, 0], strict=True):
        if weight > 0:
            probability[0, 0, k, v, u] += weight
    decoded = local_mean(probability, peak(probability))
    assert decoded[0, 0].tolist() == pytest.approx([height, row, column], abs=1e-3)


def test_hard_targets_are_one_cell():
    cells = target(2.4, 3.6, 1.2, hard=True)
    assert cells.weight.max() == 1
    assert cells.index[0, 0, cells.weight[0, 0].argmax()].tolist() == [1, 4, 2]


def test_the_loss_equals_pytorchs_cross_entropy_for_a_hard_target():
    logits = torch.randn(1, 1, BINS, ROWS, COLUMNS)
    loss = volume_loss(logits, target(2, 3, 1, hard=True))
    joint = torch.nn.functional.cross_entropy(logits.flatten(1), torch.tensor([(1 * ROWS + 3) * COLUMNS + 2]))
    assert loss.item() == pytest.approx(joint.item(), abs=1e-5)


def test_the_loss_is_that_of_the_pixel_and_of_the_height_there():
    logits = torch.randn(1, 1, BINS, ROWS, COLUMNS)
    bin_, row, column = 2, 3, 1
    of_pixels = logits[0, 0].logsumexp(0).flatten()
    pixel = torch.nn.functional.cross_entropy(of_pixels, torch.tensor(row * COLUMNS + column))
    height = torch.nn.functional.cross_entropy(logits[0, 0, :, row, column], torch.tensor(bin_))
    loss = volume_loss(logits, target(column, row, bin_, hard=True))
    assert loss.item() == pytest.approx((pixel + height).item(), abs=1e-5)


def test_gradient_descent_on_the_logits_reaches_the_target():
    logits = torch.zeros(1, 1, BINS, ROWS, COLUMNS, requires_grad=True)
    cells = target(2.25, 4.5, 3.75)
    for _ in range(1000):
        (gradient,) = torch.autograd.grad(volume_loss(logits, cells).sum(), logits)
        logits = (logits - 2 * gradient).detach().requires_grad_()
    probability = logits.flatten(-3).softmax(-1).view_as(logits)
    assert local_mean(probability, peak(logits))[0, 0].tolist() == pytest.approx([3.75, 4.5, 2.25], abs=0.05)


def test_a_point_on_the_border_takes_a_cell_inside():
    logits = torch.zeros(1, 1, BINS, ROWS, COLUMNS)
    assert volume_loss(logits, target(-0.4, ROWS - 0.6, 0)).isfinite().all()
    assert peak(logits).shape == (1, 1, 3)
