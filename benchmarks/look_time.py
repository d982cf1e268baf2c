"""The time of a look at pocket size: which decoder blocks are read, and after how many denoising steps.

The cells of configs/experiments/feature_sweep.yaml, in turn, from random weights; a ratio is to the first of them, in
the same round. Median milliseconds and ratios go to results/benchmarks/look_time.json.
"""

from __future__ import annotations

import json
import statistics

import torch

from benchmarks import policies
from benchmarks.harness import RESULTS, clock, machine

POCKET = ("--unet.channels", "32", "64", "64", "--policy.future", "noise")
VARIANTS = {
    "taps 1, 2": (),
    "taps 0": ("--policy.taps", "0"),
    "taps 1": ("--policy.taps", "1"),
    "taps 2": ("--policy.taps", "2"),
    "taps 0, 1, 2": ("--policy.taps", "0", "1", "2"),
    "2 denoising steps": ("--policy.sigma", "10", "--policy.denoising_steps", "2"),
    "4 denoising steps": ("--policy.sigma", "10", "--policy.denoising_steps", "4"),
    "8 denoising steps": ("--policy.sigma", "10", "--policy.denoising_steps", "8"),
}
ROUNDS, LOOKS = 9, 10


def main() -> None:
    """Measure all variants round by round."""
    seen = policies.observation()
    looks = {
        name: policies.policy(policies.settings(*POCKET, *flags)).eval() for name, flags in VARIANTS.items()
    }
    seconds: dict[str, list[float]] = {name: [] for name in looks}
    with torch.inference_mode():
        for round_ in range(ROUNDS + 1):  # the first is not counted
            for name, policy in looks.items():
                began = clock()
                for _ in range(LOOKS):
                    policy.act(seen)
                if torch.cuda.is_available():
                    torch.cuda.synchronize()
                if round_:
                    seconds[name].append((clock() - began) / LOOKS)
    reference = seconds[next(iter(seconds))]
    line = {
        "name": "look_time",
        "milliseconds": {name: round(1000 * statistics.median(each), 1) for name, each in seconds.items()},
        "ratios": {
            name: round(statistics.median(a / b for a, b in zip(each, reference, strict=True)), 2)
            for name, each in seconds.items()
        },
        "rounds": ROUNDS,
        "machine": machine(),
        "torch": torch.__version__,
    }
    print(json.dumps(line))
    (RESULTS / "look_time.json").write_text(json.dumps(line, indent=1) + "\n")


if __name__ == "__main__":
    main()
