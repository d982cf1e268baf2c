"""What successes say: Wilson's interval for one policy, McNemar's exact test for two on the same starts."""

from __future__ import annotations

import math
from typing import NamedTuple

Z95 = 1.959963984540054
"""97.5 % quantile of the standard normal distribution."""


class Paired(NamedTuple):
    """PLACE or not, for two policies on the same starts, and McNemar's exact two-sided p-value."""

    both: int
    only_a: int
    only_b: int
    neither: int
    p_value: float


def wilson(successes: int, trials: int, z: float = Z95) -> tuple[float, float]:
    """Score interval of a success rate (Wilson 1927); it stays within [0, 1] and is defined at 0 and at `trials`.

    Raises:
        ValueError: no trials, or more successes than trials.
    """
    if not 0 <= successes <= trials or trials == 0:
        raise ValueError(f"{successes} successes in {trials} trials is not a rate")
    rate, shrink = successes / trials, 1 + z * z / trials
    center = (rate + z * z / (2 * trials)) / shrink
    half = z / shrink * math.sqrt(rate * (1 - rate) / trials + z * z / (4 * trials * trials))
    low = 0.0 if successes == 0 else center - half
    high = 1.0 if successes == trials else center + half
    return low, high


def mcnemar(only_a: int, only_b: int) -> float:
    """Exact two-sided p-value that A and B succeed equally often, from the starts on which they differ.

    Under the null hypothesis each such start falls to A or B by a fair coin (McNemar 1947, exact binomial form).
    """
    differing = only_a + only_b
    tail = sum(math.comb(differing, k) for k in range(min(only_a, only_b) + 1))
    return min(1.0, 2 * tail / 2**differing)
