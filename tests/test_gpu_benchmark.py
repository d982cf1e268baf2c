"""What of the GPU benchmark can be tested without one: that it ends in time, and its table."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from benchmarks import gpu
from benchmarks.gpu_table import table


@pytest.mark.parametrize(("each", "rows"), [(10.0, 8), (45.0, 2), (120.0, 1)])
def test_no_row_begins_that_would_end_too_late(each: float, rows: int, monkeypatch: pytest.MonkeyPatch):
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(gpu, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    monkeypatch.setattr(gpu, "START", 0.0)
    monkeypatch.setattr(gpu, "BUDGET", 100.0)

    def measured():
        for row in range(8):
            clock.now += each
            yield {"row": row}

    found = gpu.in_time(measured())
    assert [row["row"] for row in found if "row" in row] == list(range(rows))
    assert ("left_out" in found[-1]) == (rows < 8)


def test_the_table_names_device_and_versions_and_what_is_left_out():
    speed = {"size": "7x320x576", "mode": "eager", "batch": 8, "forward_ms": 61.25, "forward_of_peak": 0.4444}
    found = {
        "device": "A Card", "precision": "bf16", "torch": "2.13.0", "cuda": "13.0", "diffusers": "0.42.1",
        "matmul_tflops": 700.4, "copy_gb_per_s": 2900.0, "optimizer": {"adamw_ms": 12.0, "ema_ms": 3.0},
        "goal": {"forward_backward_of_peak": 0.45, "best": 0.46, "reached": True}, "seconds": 400.0,
        "speed": [speed | {"forward_backward_left_out": "out of memory"}, {"left_out": "all after 460 s"}],
        "memory": [], "latency": [{"size": "7x320x576", "mode": "bf16", "p50_ms": 30.0, "p95_ms": 31.0}],
    }  # fmt: skip
    lines = table(found).splitlines()
    assert (
        lines[0] == "# A Card"
        and "torch 2.13.0, CUDA 13.0" in lines[2]
        and "46% of the matmul peak" in lines[2]
    )
    assert "| 7x320x576 | eager | 8 | 61.2 | 44% |  |  | forward backward left out: out of memory |" in lines
    assert "|  |  |  |  |  |  |  | left out: all after 460 s |" in lines
    assert "| 7x320x576 | bf16 | 30.0 | 31.0 |" in lines
    small = table(found | {"optimizer": {"adamw_ms": 12.0, "optimizer_left_out": "out of memory"}})
    assert "an update 12.0 ms, the average out of memory." in small
