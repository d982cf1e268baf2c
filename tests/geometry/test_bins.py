"""Bins: values to coordinates and back, at the centres, at the edges and outside."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vidpara.geometry.bins import Bins

bins = st.builds(
    lambda low, width, count: Bins(low, low + width, count),
    st.floats(-2, 2),
    st.floats(0.05, 5),
    st.integers(1, 64),
)


@given(bins)
def test_the_centre_of_bin_i_has_coordinate_i(bins: Bins):
    centers = bins.centers()
    torch.testing.assert_close(bins.value(torch.arange(bins.count).float()), centers)
    torch.testing.assert_close(
        bins.coordinate(centers.double()), torch.arange(bins.count).double(), rtol=0, atol=1e-2
    )


@given(bins, st.floats(0, 1))
def test_value_inverts_coordinate_between_the_outer_centres(bins: Bins, fraction: float):
    low, high = bins.low + bins.width / 2, bins.high - bins.width / 2
    value = torch.tensor(low + fraction * (high - low), dtype=torch.float64)
    torch.testing.assert_close(bins.value(bins.coordinate(value)), value, rtol=0, atol=1e-9)


@given(bins, st.floats(0, 1))
def test_the_nearest_bin_is_at_most_half_a_width_away(bins: Bins, fraction: float):
    value = torch.tensor(bins.low + fraction * (bins.high - bins.low), dtype=torch.float64)
    decoded = bins.value(bins.coordinate(value).round())
    assert abs(float(decoded - value)) <= bins.width / 2 + 1e-9


@given(bins, st.floats(0.1, 100))
def test_values_outside_go_to_the_outermost_bins(bins: Bins, beyond: float):
    outside = torch.tensor([bins.low - beyond, bins.high + beyond], dtype=torch.float64)
    assert bins.coordinate(outside).tolist() == [0, bins.count - 1]


def test_centres_by_hand():
    bins = Bins(-1.0, 1.0, 4)
    assert bins.width == pytest.approx(0.5)
    torch.testing.assert_close(bins.centers(), torch.tensor([-0.75, -0.25, 0.25, 0.75]))
    torch.testing.assert_close(
        bins.coordinate(torch.tensor([-0.75, 0.0, 0.5])), torch.tensor([0.0, 1.5, 2.5])
    )
