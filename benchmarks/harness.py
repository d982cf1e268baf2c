"""How a benchmark measures and reports: two paths interleaved in one process, the median of their ratios, one line.

Machines are shared and noisy, so only ratios are compared, on a CPU of the processor's time on one thread; `ratios` are
the smallest and the largest of them. Each script prints one line and writes it to
results/benchmarks/NAME.json; it ends with status 1 if its guard (what must be equal for the ratio to mean anything) or
its goal is not met.
"""

from __future__ import annotations

import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

if not torch.cuda.is_available():
    torch.set_num_threads(1)  # several would wait for one another wherever the machine is shared

RESULTS = Path(__file__).parents[1] / "results/benchmarks"
PAIRS = 5


def clock() -> float:
    """Seconds: of the processor where it computes, which other processes' work does not lengthen, else of the wall."""
    return time.perf_counter() if torch.cuda.is_available() else time.process_time()


def interleaved(
    a: Callable[[], Any],
    b: Callable[[], Any],
    pairs: int = PAIRS,
    now: Callable[[], float] = clock,
) -> tuple[list[float], list[float]]:
    """Seconds of each call of `a` and `b`, called in turn after one unmeasured round.

    `now` is `time.perf_counter` where waiting is what is measured, for a disk or another process, which the
    processor's time leaves out.
    """
    seconds: tuple[list[float], list[float]] = ([], [])
    for round_ in range(pairs + 1):
        for path, into in zip((a, b), seconds, strict=True):
            began = now()
            path()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if round_:
                into.append(now() - began)
    return seconds


def report(
    name: str,
    a: list[float],
    b: list[float],
    unit: str,
    guard: bool,
    goal: float,
    at_least: bool = True,
    **more: Any,
) -> None:
    """Print and write the line of a benchmark whose ratio is A over B, and end with status 1 where it fails.

    `goal` is the smallest ratio that counts (the largest with `at_least` off); `more` goes into the line.
    """
    ratios = [x / y for x, y in zip(a, b, strict=True)]
    ratio = statistics.median(ratios)
    reached = ratio >= goal if at_least else ratio <= goal
    line = {
        "name": name, "ratio": _digits(ratio, 3),
        "ratios": [_digits(min(ratios), 3), _digits(max(ratios), 3)], "goal": f"{'>=' if at_least else '<='} {goal}",
        "reached": reached, "a": _digits(statistics.median(a), 4), "b": _digits(statistics.median(b), 4),
        "unit": unit, "pairs": len(a), "guard": guard, **more, "machine": machine(), "torch": torch.__version__,
    }  # fmt: skip
    print(json.dumps(line))
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(line, indent=1) + "\n")
    if not (guard and reached):
        sys.exit(1)


def _digits(value: float, count: int) -> float:
    return float(f"{value:.{count}g}")


def machine() -> str:
    """The GPU, or the number of threads and the processor's kind."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{torch.get_num_threads()} CPU threads, {platform.machine()}"
