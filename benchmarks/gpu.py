"""What one GPU does with the full-size model, in under eight minutes: `python -m benchmarks.gpu > gpu.json`.

Random weights of the published shape, so nothing is downloaded. Matmul peak and copy bandwidth of this very GPU;
forward, and forward and backward, at 7 x 320 x 576 and 14 x 256 x 256, eager, channels last, compiled and as a CUDA
graph; peak memory with no checkpointing, diffusers' and our two, beside what `--plan` counts; the cost of optimiser and
average; the latency of a policy's whole look with and without imagination. The goal is 45 % of the matmul peak in
training. A part that does not fit is reported as such and the rest goes on. The same numbers as a table go beside the
JSON in results/benchmarks.

`--small` runs the same code with a small UNet and without compiling, to try it without a GPU.
"""

from __future__ import annotations

import gc
import json
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import diffusers
import torch

from benchmarks import full_size, policies
from benchmarks.full_size import DEVICE, SIZES, SMALL, autocast, build, flops, inputs
from benchmarks.gpu_table import table
from benchmarks.harness import RESULTS
from vidpara.models.activations import activations
from vidpara.models.checkpointing import checkpoint_layers
from vidpara.models.compiled import compile_layers
from vidpara.models.cuda_graph import Replayed
from vidpara.models.layout import use_channels_last
from vidpara.training.ema import Ema

BUDGET = 470.0
"""Seconds by which the last row should end."""
MODES = ("eager", "channels last", "graph", *(() if SMALL else ("compiled",)))
"""The slowest to begin come last: if time is short they are left out."""
GOAL = 0.45
"""Fraction of the measured matmul peak that the best forward and backward should reach."""
BATCHES = (1,) if SMALL else (1, 2, 4, 8)
REPEATS = 2 if SMALL else 8
START = time.perf_counter()


def seconds(run: Callable[[], Any], repeats: int = REPEATS) -> list[float]:
    """Time of each call after two unmeasured ones."""
    times = []
    for index in range(repeats + 2):
        _wait()
        began = time.perf_counter()
        run()
        _wait()
        if index >= 2:
            times.append(time.perf_counter() - began)
    return times


def matmul_peak() -> float:
    """TFLOP/s of the best of some large bf16 products."""
    best = 0.0
    for size in (256,) if SMALL else (4096, 8192, 12288):
        a, b = (torch.randn(size, size, device=DEVICE, dtype=torch.bfloat16) for _ in range(2))
        best = max(best, 2 * size**3 / min(seconds(lambda a=a, b=b: a @ b, 10)) / 1e12)
    return best


def copy_bandwidth() -> float:
    """GB/s, bytes read and written."""
    source = torch.empty((1 << 20) if SMALL else (1 << 30), device=DEVICE, dtype=torch.uint8)
    target = torch.empty_like(source)
    return 2 * source.numel() / min(seconds(lambda: target.copy_(source), 10)) / 1e9


def speed(mode: str, size: str, peak: float) -> Iterator[dict[str, Any]]:
    """Forward, and forward and backward, a clip and as a fraction of the matmul peak. A graph is of a forward alone."""
    work, unet = flops(size), build().train()
    if mode == "channels last":
        use_channels_last(unet)
    if mode == "compiled":
        compile_layers(unet)
    for batch in BATCHES:
        given = inputs(size, batch)

        def forward(*tensors: torch.Tensor) -> torch.Tensor:
            with autocast():
                return unet(*tensors, return_dict=False)[0]

        def both(given=given) -> None:
            unet.zero_grad(set_to_none=True)
            forward(*given).float().square().mean().backward()

        row: dict[str, Any] = {"size": size, "mode": mode, "batch": batch}
        with part(row, "forward"), torch.no_grad():
            run = capture(forward, given) if mode == "graph" else lambda given=given: forward(*given)
            spent = statistics.median(seconds(run))
            row |= {"forward_ms": 1e3 * spent, "forward_of_peak": batch * work / spent / peak}
        if mode != "graph":
            with part(row, "forward_backward"):
                spent = statistics.median(seconds(both))
                row |= {
                    "forward_backward_ms": 1e3 * spent,
                    "forward_backward_of_peak": 3 * batch * work / spent / peak,
                }
        unet.zero_grad(set_to_none=True)
        yield row


def capture(run: Callable[..., Any], given: tuple[torch.Tensor, ...]) -> Callable[[], Any]:
    """`run` of these tensors as a CUDA graph, as the policy has it; without a GPU `run` itself."""
    replayed = Replayed(run) if DEVICE.type == "cuda" else run
    return lambda: replayed(*given)


def memory(size: str) -> Iterator[dict[str, Any]]:
    """Peak of a step's activations in four ways, beside the number of bytes that counting gives."""
    for mode in ("none", "diffusers", "finest", "layers"):
        row: dict[str, Any] = {"size": size, "checkpointing": mode}
        with part(row, "peak"):
            unet = build(shortcut=mode in ("finest", "layers")).train()
            if mode == "diffusers":
                unet.enable_gradient_checkpointing()
            if mode in ("finest", "layers"):
                checkpoint_layers(unet, mode)
            given = inputs(size, 1)
            with autocast():
                saved = activations(unet, lambda unet=unet, given=given: unet(*given, return_dict=False))
            row |= {"counted_gib": saved.bytes / 2**30, "counted_largest_layer_gib": saved.largest / 2**30}
            del saved
            _clear()
            base = _peak(reset=True)
            with autocast():
                unet(*given, return_dict=False)[0].float().square().mean().backward()
            gradients = sum(p.grad.numel() * 4 for p in unet.parameters() if p.grad is not None)
            row |= {"peak_gib": (_peak() - base) / 2**30, "gradients_gib": gradients / 2**30}
        yield row


def optimizer_cost() -> dict[str, Any]:
    """Milliseconds of a fused AdamW update and of the average, over all weights; 28 GiB."""
    row: dict[str, Any] = {}
    with part(row, "optimizer"):
        unet = build()
        for parameter in unet.parameters():
            parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None
        adamw = torch.optim.AdamW([p for p in unet.parameters() if p.requires_grad], fused=True)
        ema = Ema(unet, 0.999)
        row["adamw_ms"] = 1e3 * statistics.median(seconds(adamw.step))
        row["ema_ms"] = 1e3 * statistics.median(seconds(lambda: ema.update(100)))
    return row


def latency(size: str) -> Iterator[dict[str, Any]]:
    """A policy's whole look at batch 1, from the image to the action chunk: autoencoder, image encoder, the UNet to the
    last tap, head; and after 15 denoising forwards.
    """
    seen, repeats = policies.observation().to(DEVICE), 3 if SMALL else 30
    modes = {"float32": (), "bf16": ("halve",), "bf16, graph": ("halve", "replay")}
    for mode, asked in modes.items():
        row: dict[str, Any] = {"size": size, "mode": mode}
        with part(row, "latency"):
            policy = full_size.policy(size)
            for name in asked if DEVICE.type == "cuda" else asked[:1]:
                getattr(policy, name)()
            row |= percentiles(seconds(lambda policy=policy: policy.act(seen), repeats))
        yield row
    row = {"size": size, "mode": "bf16, 15 denoising steps first"}
    with part(row, "latency"):
        policy = full_size.policy(size, 3 if SMALL else 16)
        policy.halve()
        row |= percentiles(seconds(lambda: policy.act(seen), repeats // 2))
    yield row


def percentiles(times: list[float]) -> dict[str, float]:
    times = sorted(times)
    return {"p50_ms": 1e3 * times[len(times) // 2], "p95_ms": 1e3 * times[int(0.95 * (len(times) - 1))]}


@contextmanager
def part(row: dict[str, Any], name: str) -> Iterator[None]:
    """A part whose failure for lack of memory is written down and is not the end."""
    try:
        yield
    except torch.cuda.OutOfMemoryError:
        row[f"{name}_left_out"] = "out of memory"
    finally:
        _clear()


def in_time(rows: Iterator[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows that end before the budget is spent, if each takes as long as the longest before it; and a last one that
    says where it was. Compiled ones can take minutes.
    """
    found, longest = [], 0.0
    began = time.perf_counter()
    for row in rows:
        found.append(row)
        now = time.perf_counter()
        longest, began = max(longest, now - began), now
        if now - START + longest > BUDGET:
            found.append({"left_out": f"all after {now - START:.0f} s"})
            break
    return found


def _wait() -> None:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def _clear() -> None:
    gc.collect()
    if DEVICE.type == "cuda":
        torch.cuda.empty_cache()


def _peak(reset: bool = False) -> int:
    if DEVICE.type != "cuda":
        return 0
    if reset:
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    return torch.cuda.max_memory_allocated()


def rounded(value: Any) -> Any:
    """The same tree with four digits."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


def main() -> None:
    torch.manual_seed(0)
    peak = matmul_peak()
    found: dict[str, Any] = {
        "device": torch.cuda.get_device_name() if DEVICE.type == "cuda" else "CPU", "small": SMALL,
        "precision": "bf16 autocast, float32 weights", "torch": torch.__version__, "cuda": torch.version.cuda,
        "diffusers": diffusers.__version__, "matmul_tflops": peak, "copy_gb_per_s": copy_bandwidth(),
    }  # fmt: skip
    found["optimizer"] = optimizer_cost()
    found["latency"] = in_time(row for size in SIZES for row in latency(size))
    found["memory"] = in_time(row for size in SIZES for row in memory(size))
    found["speed"] = in_time(row for mode in MODES for size in SIZES for row in speed(mode, size, peak))
    fastest = max((row.get("forward_backward_of_peak", 0.0) for row in found["speed"]), default=0.0)
    found["goal"] = {"forward_backward_of_peak": GOAL, "best": fastest, "reached": fastest >= GOAL}
    found["seconds"] = time.perf_counter() - START
    text = json.dumps(rounded(found), indent=1)
    print(text)
    if not SMALL:
        name = RESULTS / f"gpu_{found['device'].lower().replace(' ', '_')}"
        name.with_suffix(".json").write_text(text + "\n")
        name.with_suffix(".md").write_text(table(rounded(found)))


if __name__ == "__main__":
    main()
