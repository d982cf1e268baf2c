"""The processor cores that this process may use, which under `taskset`, Slurm or a container are not all there are."""

from __future__ import annotations

import os


def cores() -> list[int]:
    """Their numbers, sorted; outside Linux those of the whole machine."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))
