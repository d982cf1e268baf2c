"""The tables of docs/full_size.md: what `--plan` counts at full size, without weights and without a GPU.

Prints and writes results/benchmarks/plan.json, GiB on each GPU.
"""

from __future__ import annotations

import json
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from benchmarks.full_size import SIZES, flops
from benchmarks.harness import RESULTS
from vidpara.cli import load
from vidpara.config import TrainPolicyConfig, TrainVideoConfig
from vidpara.memory import GIB, plan

GPUS = 8
PARTS = ("weights", "gradients", "optimizer", "average", "activations", "largest_block")
CASES: dict[str, list[str]] = {
    f"{overlay} {clips} {which}": [
        f"configs/{overlay}.yaml", "--trainer.batch_size", str(clips), "--unet.checkpointing", which,
    ]
    for overlay in ("full", "full_256") for clips in (1, 4) for which in ("none", "finest", "layers")
}  # fmt: skip
CASES["24 GB card"] = [
    "configs/full.yaml", "--trainer.batch_size", "1", "--trainer.accumulate", "4", "--optimizer.kind", "adamw8bit",
    "--trainer.ema", "0",
]  # fmt: skip
CASES |= {
    f"adapters {clips}": ["configs/full.yaml", "--trainer.batch_size", str(clips), "--unet.lora", "16"]
    for clips in (1, 4)
}
CASES |= {
    f"stage one {clips} layers": ["configs/full.yaml", "--trainer.batch_size", str(clips)] for clips in (1, 4)
}


if __name__ == "__main__":
    found: dict[str, Any] = {"torch": torch.__version__}
    for case, flags in CASES.items():
        if case.startswith("stage one"):
            config = load(TrainVideoConfig, ["configs/video/stage_one.yaml", *flags])
        else:
            config = load(TrainPolicyConfig, ["configs/policy/joint.yaml", *flags])
        one, zero2, fsdp2 = plan(config, GPUS)
        sizes = {key: round(getattr(one, key) / GIB, 2) for key in PARTS}
        found[case] = {
            "millions": round(one.parameters / 1e6, 1), "millions_trained": round(one.trained / 1e6, 1), **sizes,
            "one_gpu": round(one.total / GIB, 1),
        }  # fmt: skip
        if config.optimizer.kind == "adamw":
            for name, divided in (("zero2", zero2), ("fsdp2", fsdp2)):
                found[case][f"{name}_gathered"] = round(divided.gathered / GIB, 2)
                found[case][f"{name}_on_{GPUS}"] = round(divided.total / GIB, 1)
    with FakeTensorMode():
        found["forward_tflop"] = {size: round(flops(size), 2) for size in SIZES}
    text = json.dumps(found, indent=1)
    print(text)
    (RESULTS / "plan.json").write_text(text + "\n")
