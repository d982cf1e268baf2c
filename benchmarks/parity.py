"""Difference of the gradients of two processes (gloo, half the batch each) from those of one, over their size.

A whole small policy: the action losses through head and video UNet, without the video loss, which draws noise. The one
process takes the halves one after the other, so that only what the processes exchange can differ; `whole_batch` is the
difference from one forward of both halves, which also rounds differently. Guard: every trained weight has a gradient.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file

from benchmarks import policies
from benchmarks.harness import report
from vidpara.training.processes import on_cpu, processes

BATCH, HALVES = 4, 2
FILE = "gradients.safetensors"


def gradients(parts: int, folder: Path | None = None) -> dict[str, torch.Tensor]:
    """Gradients of the mean losses of a batch that is cut in `parts`, of which every process takes its share; with a
    `folder` the first process writes them there.
    """
    config = policies.settings("--policy.action_fraction", "1.0")
    policy = policies.policy(config).train()
    torch.manual_seed(1)
    batch = policies.batch(config, BATCH)
    state, accelerator = processes(), Accelerator(cpu=on_cpu())
    wrapped, size = accelerator.prepare(policy), BATCH // parts
    mine = range(state.process_index, parts, state.num_processes)
    for number in mine:
        losses = wrapped(policies.part(batch, slice(number * size, (number + 1) * size)))
        accelerator.backward(torch.stack(list(losses.values())).sum() / len(mine))
    found = {name: value.grad for name, value in policy.named_parameters() if value.grad is not None}
    if folder and state.is_main_process:
        save_file(found, folder / FILE)
    return found


def norm(values: list[torch.Tensor]) -> float:
    """Of all tensors together."""
    return float(torch.stack([value.norm() for value in values]).norm())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="given to the two processes by this script")
    if folder := parser.parse_args().folder:
        gradients(HALVES, folder)
        sys.exit()
    with tempfile.TemporaryDirectory() as name:
        command = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(HALVES)]
        child = ["-m", "benchmarks.parity", "--folder", name]
        subprocess.run([sys.executable, "-m", *command, *child], check=True)
        two = load_file(Path(name) / FILE)
    one, whole = gradients(HALVES), gradients(1)
    apart, rounded = (norm([value - two[name] for name, value in each.items()]) for each in (one, whole))
    size, guard = norm(list(one.values())), one.keys() == two.keys() == whole.keys()
    report(
        "parity", [apart], [size], "norm of the gradient", guard, 1e-5, at_least=False,
        whole_batch=float(f"{rounded / size:.2g}"), weights=sum(value.numel() for value in one.values()),
    )  # fmt: skip
