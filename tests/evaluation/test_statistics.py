from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from vidpara.evaluation.statistics import mcnemar, wilson


@given(st.integers(1, 300).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_agrees_with_scipy(counts: tuple[int, int]):
    successes, trials = counts
    reference = binomtest(successes, trials).proportion_ci(0.95, method="wilson")
    assert wilson(successes, trials) == pytest.approx((reference.low, reference.high), abs=1e-12)


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_agrees_with_scipys_binomial_test(only_a: int, only_b: int):
    expected = binomtest(only_a, only_a + only_b, 0.5).pvalue if only_a + only_b else 1.0
    assert mcnemar(only_a, only_b) == pytest.approx(expected, rel=1e-9)


def test_the_interval_touches_zero_and_one_exactly_there():
    assert wilson(0, 20)[0] == 0.0 and wilson(20, 20)[1] == 1.0
    assert wilson(0, 20)[1] == pytest.approx(1 - wilson(20, 20)[0])


@pytest.mark.parametrize("counts", [(0, 0), (3, 2), (-1, 2)])
def test_what_is_not_a_rate_is_refused(counts: tuple[int, int]):
    with pytest.raises(ValueError, match="not a rate"):
        wilson(*counts)
