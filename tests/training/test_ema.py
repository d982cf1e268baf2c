"""The average of the weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from vidpara.training.ema import Ema


def set_weight(model: nn.Linear, value: float) -> None:
    with torch.no_grad():
        model.weight.fill_(value)


def test_the_average_equals_its_closed_form():
    model = nn.Linear(1, 1, bias=False)
    set_weight(model, 5.0)
    ema = Ema(model, 0.4)
    expected, values = 5.0, [1.0, -2.0, 4.0, 8.0, 3.0, 3.0, 2.0]
    for n, value in enumerate(values, start=1):
        set_weight(model, value)
        ema.update(n)
        decay = min(0.4, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * value
    assert {(1 + n) / (10 + n) < 0.4 for n in range(1, 8)} == {True, False}, "both regimes are covered"
    with ema.swapped_in():
        assert model.weight.item() == pytest.approx(expected)
    assert model.weight.item() == 2.0


def test_swapping_in_ends_with_the_trained_weights_after_an_error():
    model = nn.Linear(1, 1)
    ema = Ema(model, 0.9)
    set_weight(model, 3.0)
    with pytest.raises(RuntimeError), ema.swapped_in():
        raise RuntimeError
    assert model.weight.item() == 3.0


def test_frozen_weights_are_not_averaged_and_zero_turns_it_off():
    model = nn.Linear(1, 1)
    model.bias.requires_grad_(False)
    assert set(Ema(model, 0.9).tensors()) == {"weight"}
    assert not Ema(model, 0.0).tensors()
