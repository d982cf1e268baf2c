"""The pocket size's training step where freed memory goes back to the system, as glibc has it, over ours that keeps it
(`vidpara.training.on_a_cpu`).

The trainer's whole step in bf16, of `joint.yaml` and, as `image`, of `dinov3_para.yaml`; a process a measurement, in
turn, since a process cannot go back to what glibc does by itself. Guard: without it the system clears thousands of
pages a step, with it less than a fifth as many.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
from typing import Any
from unittest import mock

from benchmarks.harness import PAIRS, report
from benchmarks.pocket_step import IMAGE, VIDEO, Trainee, median_ratio
from vidpara.training import trainer

FILES = {"video": VIDEO, "image": IMAGE}
THOUSANDS = 2000


def measure(policy: str, way: str) -> None:
    """In a process of its own: seconds of a step, and how many pages were cleared in a whole training."""
    trainee = Trainee(*FILES[policy])
    precision = trainer.precision_of(trainee.config.trainer)
    if way == "keep":
        trainee.train(precision)
    else:
        with mock.patch.object(trainer, "keep_freed_memory", lambda: False):
            trainee.train(precision)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    with mock.patch.object(trainer, "keep_freed_memory", lambda: False):  # or it has been said
        seconds = trainee.train(precision).seconds
    print(json.dumps([seconds, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before]))


def compare(policy: str) -> tuple[list[float], list[float], dict[str, Any]]:
    """Seconds with memory given back and with memory kept, and how many pages."""
    command = [sys.executable, "-m", "benchmarks.freed_memory", policy]
    rounds = [
        [
            json.loads(
                subprocess.run([*command, way], capture_output=True, check=True).stdout.splitlines()[-1]
            )
            for way in ("leave", "keep")
        ]
        for _ in range(PAIRS)
    ]
    (a, given), (b, kept) = (zip(*column, strict=True) for column in zip(*rounds, strict=True))
    return list(a), list(b), {"pages": [round(statistics.median(given)), round(statistics.median(kept))]}


if __name__ == "__main__":
    if len(sys.argv) > 1:
        measure(*sys.argv[1:])
    else:
        a, b, video = compare("video")
        *seconds, image = compare("image")
        guard = all(
            given > THOUSANDS and kept < given / 5 for given, kept in (video["pages"], image["pages"])
        )
        image["ratio"] = round(median_ratio(*seconds), 3)
        report("freed_memory", a, b, "s a step of 16 clips", guard, 1.0, **video, image=image)
