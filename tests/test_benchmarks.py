"""What of the benchmarks can be tested without measuring: what is counted, and that a guard finds what it is for."""

from __future__ import annotations

import importlib
import json
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks import activation_memory, harness


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def test_waiting_counts_only_where_it_is_what_is_measured(no_gpu: None):
    def wait() -> None:
        time.sleep(0.05)

    processor, _ = harness.interleaved(wait, lambda: None, pairs=2)
    wall, nothing = harness.interleaved(wait, lambda: None, pairs=2, now=time.perf_counter)
    assert max(processor) < 0.02 and min(wall) >= 0.05 and len(wall) == len(nothing) == 2


def test_without_a_gpu_a_benchmark_has_one_thread(no_gpu: None):
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    importlib.reload(harness)
    found = torch.get_num_threads()
    torch.set_num_threads(threads)
    assert found == 1


def test_a_report_has_the_median_of_the_ratios_and_how_far_they_reach(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(harness, "RESULTS", tmp_path)
    harness.report("some", [2.0, 9.0, 4.0], [1.0, 3.0, 1.0], "s", True, 3.0)
    found = json.loads((tmp_path / "some.json").read_text())
    assert (found["ratio"], found["ratios"], found["reached"]) == (3.0, [2.0, 4.0], True)
    with pytest.raises(SystemExit):
        harness.report("some", [2.0], [1.0], "s", True, 3.0)


def test_the_guard_of_activation_memory_passes():
    assert activation_memory.gradients_are_equal()


@pytest.mark.parametrize("lost", ["conv_in", "mid_block.attentions.0.transformer_blocks.0.attn2.to_v"])
def test_a_lost_gradient_is_found(lost: str):
    def prepare(unet: nn.Module) -> None:
        activation_memory.ours(unet)
        unet.get_submodule(lost).requires_grad_(False)

    assert not activation_memory.gradients_are_equal(prepare)


def test_another_gradient_is_found():
    def prepare(unet: nn.Module) -> None:
        activation_memory.ours(unet)
        unet.get_submodule("conv_out").register_full_backward_hook(lambda _, inputs, __: (2 * inputs[0],))

    assert not activation_memory.gradients_are_equal(prepare)
