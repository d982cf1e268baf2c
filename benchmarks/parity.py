"""Difference of the gradients of two processes (gloo, half the batch each) from those of one, over their size.

A whole small policy with all of its losses: three of four clips train the head at the noise of run time, one the video
model at log-normal noise, and the trainer's own sampler says which, so that one process has two of the three and the
other has one. Random numbers are drawn clip by clip, the same in every cut; a training draws them process by process.
The one process takes the halves one after the other, so that only what the processes exchange can differ; `whole_batch`
is the difference from one forward of both halves, which also rounds differently. Guard: every trained weight has a
gradient, also of the head in a process of one clip that does not train it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from torch.overrides import TorchFunctionMode
from torch.utils.data import default_collate

from benchmarks import policies
from benchmarks.harness import report
from vidpara.config import TrainPolicyConfig
from vidpara.training.processes import on_cpu, processes
from vidpara.training.sampler import BatchSampler, Piece, Share

BATCH, HALVES = 4, 2
FILE = "gradients.safetensors"


class NoiseOfClips(TorchFunctionMode):
    """Random numbers by clip: the n-th draw of a shape for a clip is the same whichever others it comes with.

    A draw for fewer clips than there are is for the last ones.
    """

    def __init__(self, clips: list[int]) -> None:
        super().__init__()
        self.clips, self.drawn = clips, Counter[torch.Size]()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func not in (torch.randn, torch.randn_like):
            return func(*args, **(kwargs or {}))
        shape = torch.empty(*args, device="cpu").shape if func is torch.randn else args[0].shape
        self.drawn[shape[1:]] += 1
        rows = []
        for clip in self.clips[len(self.clips) - shape[0] :]:
            generator = torch.Generator().manual_seed(1000 * self.drawn[shape[1:]] + clip)
            rows.append(torch.empty(shape[1:]).normal_(generator=generator))
        device = args[0].device if func is torch.randn_like else (kwargs or {}).get("device")
        return torch.stack(rows).to(device)


def gradients(config: TrainPolicyConfig, pieces: int, folder: Path | None = None) -> dict[str, torch.Tensor]:
    """Gradients of a training step's losses on a batch that is cut in `pieces`, of which every process takes its share;
    with a `folder` the first process writes them there.
    """
    policy = policies.policy(config).train()
    torch.manual_seed(1)
    batch = policies.batch(config, BATCH)
    state, accelerator = processes(), Accelerator(cpu=on_cpu())
    wrapped, acting = accelerator.prepare(policy), policy.acting(BATCH)
    cut = replace(config.trainer, batch_size=BATCH // pieces, accumulate=pieces // state.num_processes)
    clips = (Piece(0, BATCH),)
    sampler = BatchSampler(
        [Share(acting, clips), Share(BATCH - acting, clips)], cut, rank=state.process_index, ranks=state.num_processes
    )  # fmt: skip
    for micro in range(cut.accumulate):
        mine = [draw.index for draw in sampler.batch(0, micro)]
        with NoiseOfClips(mine):
            losses = wrapped(default_collate([policies.part(batch, i) for i in mine]), sampler.part(micro))
        accelerator.backward(torch.stack(list(losses.values())).sum() / cut.accumulate)
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
    config = policies.settings()
    if folder := parser.parse_args().folder:
        gradients(config, HALVES, folder)
        sys.exit()
    with tempfile.TemporaryDirectory() as name:
        command = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(HALVES)]
        child = ["-m", "benchmarks.parity", "--folder", name]
        subprocess.run([sys.executable, "-m", *command, *child], check=True)
        two = load_file(Path(name) / FILE)
    one, whole = gradients(config, HALVES), gradients(config, 1)
    apart, rounded = (norm([value - two[name] for name, value in each.items()]) for each in (one, whole))
    size, guard = norm(list(one.values())), one.keys() == two.keys() == whole.keys()
    report(
        "parity", [apart], [size], "norm of the gradient", guard, 1e-5, at_least=False,
        whole_batch=float(f"{rounded / size:.2g}"), weights=sum(value.numel() for value in one.values()),
    )  # fmt: skip
