"""What `benchmarks.gpu` found, as Markdown: `python -m benchmarks.gpu_table results/benchmarks/gpu_NAME.json`."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

GIB, MS, SHARE = "{:.2f}", "{:.1f}", "{:.0%}"
SPEED = {
    "size": "{}", "mode": "{}", "batch": "{}", "forward_ms": MS, "forward_of_peak": SHARE, "forward_backward_ms": MS,
    "forward_backward_of_peak": SHARE,
}  # fmt: skip
MEMORY = {
    "size": "{}", "checkpointing": "{}", "counted_gib": GIB, "counted_largest_layer_gib": GIB, "gradients_gib": GIB,
    "peak_gib": GIB,
}  # fmt: skip
LATENCY = {"size": "{}", "mode": "{}", "p50_ms": MS, "p95_ms": MS}


def table(found: Mapping[str, Any]) -> str:
    """The device with its versions, the goal, and a table of each part."""
    goal, optimizer = found["goal"], found["optimizer"]
    lines = [
        f"# {found['device']}",
        "",
        f"{found['precision']}; torch {found['torch']}, CUDA {found['cuda']}, diffusers {found['diffusers']}. Matmul "
        f"{found['matmul_tflops']:.0f} TFLOP/s, copy {found['copy_gb_per_s']:.0f} GB/s, an update "
        f"{_ms(optimizer, 'adamw_ms')}, the average {_ms(optimizer, 'ema_ms')}. Best forward and backward: "
        f"{goal['best']:.0%} of the matmul peak, goal {goal['forward_backward_of_peak']:.0%}, "
        f"{'reached' if goal['reached'] else 'not reached'}. Measured in {found['seconds']:.0f} s.",
    ]
    for title, columns in (("speed", SPEED), ("memory", MEMORY), ("latency", LATENCY)):
        lines += ["", f"## {title.capitalize()}", "", *_rows(found[title], columns)]
    return "\n".join(lines) + "\n"


def _ms(row: Mapping[str, Any], name: str) -> str:
    return f"{row[name]:.1f} ms" if name in row else row["optimizer_left_out"]


def _rows(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> list[str]:
    """One line a row; where something is left out, the last column says what and why."""
    missing = [
        ", ".join(f"{key}: {why}".replace("_", " ") for key, why in row.items() if "left_out" in key)
        for row in rows
    ]
    cells = [
        [form.format(row[name]) if name in row else "" for name, form in columns.items()] for row in rows
    ]
    head = [name.replace("_", " ") for name in columns]
    if any(missing):
        head.append("")
        cells = [[*line, why] for line, why in zip(cells, missing, strict=True)]
    return [f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *cells)]


if __name__ == "__main__":
    sys.stdout.write(table(json.loads(Path(sys.argv[1]).read_text())))
