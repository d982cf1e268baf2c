"""Weights divided among two processes (FSDP2, and ZeRO-2's trade), through the shipped launch files."""

from __future__ import annotations

import math
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from training.launching import POCKET, TINY, events, launch_two
from training.pocket import FLAGS
from training.tiny import TinyConfig, fit

from vidpara.cli import UserError
from vidpara.config import OptimizerConfig, TrainerConfig
from vidpara.training import checkpoint, sharding
from vidpara.training.sharding import check_launch


def launch_sharded(run: Path, *flags: str, file: str = "fsdp2.yaml") -> subprocess.CompletedProcess[str]:
    own = ("--run", str(run), "--noise", "0", "--optimizer.kind", "adamw", "--trainer.batch-size", "4")
    return launch_two(file, TINY, *own, *flags)


@pytest.mark.parametrize("file", ["fsdp2.yaml", "zero2.yaml"])
def test_divided_weights_train_like_whole_ones(tmp_path: Path, file: str):
    """Through the shipped launch files: two processes with halves of the weights, against one with all of them."""
    one, two = tmp_path / "one", tmp_path / "two"
    config = TinyConfig(run=one, noise=0.0)
    fit(replace(config, optimizer=replace(config.optimizer, kind="adamw")).having(batch_size=8, steps=10))
    ended = launch_sharded(two, "--trainer.steps", "10", file=file)
    assert ended.returncode == 0, ended.stderr
    assert "divided among 2 processes" in ended.stdout
    a, b = (checkpoint.load(run / "checkpoint-00000010") for run in (one, two))
    for kind in ("model", "ema", "optimizer"):
        assert a.tensors[kind].keys() == b.tensors[kind].keys()
        for name, value in a.tensors[kind].items():
            torch.testing.assert_close(b.tensors[kind][name], value, rtol=1e-5, atol=1e-6)
    for ours, theirs in zip(events(one), events(two), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5)


@pytest.mark.parametrize("kind", ["whole", "sharded"])
def test_a_run_goes_on_with_another_number_of_processes_and_another_division(tmp_path: Path, kind: str):
    """Ten steps on two processes with divided weights, ten more on one, against twenty on one."""
    config = TinyConfig(run=tmp_path / "whole", noise=0.0)
    config = replace(config, optimizer=replace(config.optimizer, kind="adamw")).having(batch_size=8, steps=20)
    fit(config)
    moved = tmp_path / "moved"
    # The schedule of the learning rate knows the whole length: stop the longer run where it has ten steps.
    ended = launch_sharded(
        moved, "--trainer.steps", "20", "--trainer.keep-checkpoints", "9", "--trainer.checkpoints", kind
    )
    assert ended.returncode == 0, ended.stderr
    names = {file.name for file in (moved / "checkpoint-00000010").glob("model*")}
    halves = {"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"}
    assert names == ({"model.safetensors"} if kind == "whole" else halves)
    shutil.rmtree(moved / "checkpoint-00000020")
    fit(replace(config, run=moved))
    a, b = (checkpoint.load(run / "checkpoint-00000020") for run in (config.run, moved))
    assert b.state["processes"] == 1
    for name, value in a.tensors["model"].items():
        torch.testing.assert_close(b.tensors["model"][name], value, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "precision", "near"),
    [("fsdp2.yaml", "no", 1e-4), ("zero2.yaml", "bf16", 2e-2)],
)
def test_the_policy_trains_and_is_evaluated_with_divided_weights(
    tmp_path: Path, file: str, precision: str, near: float
):
    """One clip a process, of which one trains the head and the other the video model; pictures come from the first
    process alone, between steps of both."""
    ended = launch_two(
        file,
        POCKET,
        *FLAGS,
        "--run",
        str(tmp_path),
        "--trainer.batch_size",
        "1",
        "--trainer.precision",
        precision,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("divided among 2 processes") == 1
    divided, whole = events(tmp_path), events(tmp_path / "whole")
    assert [line.keys() for line in divided] == [line.keys() for line in whole]
    assert sum("vis/imagined" in line for line in divided) == 2
    for ours, theirs in zip(divided, whole, strict=True):
        losses = [name for name in ours if name.endswith("loss")]
        assert [ours[name] for name in losses] == pytest.approx([theirs[name] for name in losses], rel=near)
        assert all(math.isfinite(value) for name, value in ours.items() if not name.startswith("vis/"))


@pytest.mark.parametrize(
    ("variable", "name"),
    [("ACCELERATE_USE_DEEPSPEED", "DeepSpeed"), ("ACCELERATE_USE_MEGATRON_LM", "Megatron-LM")],
)
def test_other_ways_to_divide_weights_are_refused_by_name(tmp_path, monkeypatch, variable, name):
    monkeypatch.setenv(variable, "true")
    with pytest.raises(UserError, match=rf"asks for {name}; .*accelerate_configs/zero2\.yaml"):
        fit(TinyConfig(run=tmp_path))


def test_fp16_is_refused_on_a_cpu_which_would_train_in_float32(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sharding, "on_cpu", lambda: True)
    with pytest.raises(UserError, match="fp16 is for GPUs"):
        check_launch(TrainerConfig(precision="fp16"), OptimizerConfig())
    check_launch(TrainerConfig(precision="bf16"), OptimizerConfig())


@pytest.mark.parametrize(
    ("trainer", "optimizer", "message"),
    [
        (TrainerConfig(precision="fp16"), OptimizerConfig(), r"set --trainer\.precision bf16 or no"),
        (TrainerConfig(), OptimizerConfig(kind="muon"), r"set --optimizer\.kind adamw"),
    ],
)
def test_settings_that_divided_weights_do_not_allow_are_refused_at_once(
    monkeypatch: pytest.MonkeyPatch, trainer: TrainerConfig, optimizer: OptimizerConfig, message: str
):
    monkeypatch.setattr(sharding, "on_cpu", lambda: False)  # where fp16 is refused at any rate
    check_launch(trainer, optimizer)
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    check_launch(trainer, optimizer)  # one process has everything
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match=message):
        check_launch(trainer, optimizer)
