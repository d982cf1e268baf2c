"""The one loop, on a tiny model."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from training.tiny import Model, Sample, TinyConfig, fit, numbers

from vidpara.cli import UserError
from vidpara.training import checkpoint
from vidpara.training.processes import processes

ROOT = Path(__file__).parents[2]
TINY = Path(__file__).with_name("tiny.py")


def launch(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join((str(ROOT), str(ROOT / "tests")))
    return subprocess.run(
        [sys.executable, *command],
        env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"} | environment,
        capture_output=True, text=True, start_new_session=True, check=False, timeout=300,
    )  # fmt: skip


def events(run: Path) -> list[dict[str, float]]:
    """The log without what depends on the clock."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if "per_second" not in key} for line in lines]


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def noisy(run: Path) -> TinyConfig:
    """Noise in the model and in the dataset, and more micro-steps than the two batches that a worker prefetches."""
    return TinyConfig(run=run, jitter=0.1).having(accumulate=4)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Tensor]]:
    """A run that nothing disturbed."""
    run = tmp_path_factory.mktemp("whole")
    return run, fit(noisy(run))


@pytest.mark.parametrize(
    ("number", "step", "workers", "left"),
    [(signal.SIGKILL, 25, 0, 20), (signal.SIGINT, 13, 1, 13)],
    ids=["kill", "ctrl_c"],
)
def test_a_resumed_run_is_the_uninterrupted_one(
    whole: tuple[Path, dict[str, Tensor]], tmp_path: Path, number: int, step: int, workers: int, left: int
):
    run = tmp_path / "run"
    flags = (
        "--run",
        str(run),
        "--jitter",
        "0.1",
        "--trainer.accumulate",
        "4",
        "--trainer.workers",
        str(workers),
    )
    ended = launch(str(TINY), *flags, TINY_SIGNAL=f"{number}@{4 * step - 3}")
    assert ended.returncode == (-9 if number == signal.SIGKILL else 130), ended.stderr
    assert [path.name for path in run.glob("checkpoint-*")] == [f"checkpoint-{left:08d}"]
    resumed = fit(noisy(run))
    assert equal(resumed, whole[1])
    assert events(run) == events(whole[0])


def test_no_step_is_logged_twice_and_the_names_are_the_promised_ones(whole: tuple[Path, dict[str, Tensor]]):
    log = events(whole[0])
    keys = [(line["step"], name) for line in log for name in line if name != "step"]
    assert len(set(keys)) == len(keys)
    assert {name for _, name in keys} == {
        "train_step/loss", "train_step/video_loss", "train_step/volume_loss", "train_step/lr", "train_step/grad_norm",
        "train/loss", "val/loss", "val/video_loss", "val/volume_loss",
    }  # fmt: skip


def test_a_finished_run_returns_its_weights_at_once(
    whole: tuple[Path, dict[str, Tensor]], capsys: pytest.CaptureFixture
):
    class Untrainable(Model):
        def forward(self, batch: Sample) -> dict[str, Tensor]:
            raise AssertionError("a finished run takes no step")

    before = events(whole[0])
    assert equal(fit(noisy(whole[0]), Untrainable()), whole[1])
    assert "is finished (30 steps)" in capsys.readouterr().out
    assert events(whole[0]) == before


def test_two_processes_train_like_one_with_the_same_global_batch(tmp_path: Path):
    """Through the shipped launch file, whose point is that two processes really start."""
    one, two = tmp_path / "one", tmp_path / "two"
    fit(TinyConfig(run=one, noise=0.0).having(batch_size=8, steps=10))
    ended = launch(
        "-m", "accelerate.commands.launch", "--config_file", str(ROOT / "accelerate_configs/cpu_2.yaml"), str(TINY),
        "--run", str(two), "--noise", "0", "--trainer.batch-size", "4", "--trainer.steps", "10",
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    a, b = (checkpoint.load(run / "checkpoint-00000010") for run in (one, two))
    assert (a.state["processes"], b.state["processes"]) == (1, 2)
    for kind in ("model", "ema"):
        for name, value in a.tensors[kind].items():
            torch.testing.assert_close(b.tensors[kind][name], value, rtol=1e-5, atol=1e-6)
    for ours, theirs in zip(events(one), events(two), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5)


def launch_two(run: Path, *flags: str, failure: str) -> subprocess.CompletedProcess[str]:
    return launch(
        "-m", "accelerate.commands.launch", "--config_file", str(ROOT / "accelerate_configs/cpu_2.yaml"), *flags,
        str(TINY), "--run", str(run), "--noise", "0", "--trainer.batch-size", "4", TINY_FAILURE=failure,
    )  # fmt: skip


def test_a_killed_process_is_restarted_and_the_job_goes_on_from_its_checkpoint(tmp_path: Path):
    fit(TinyConfig(run=tmp_path / "one", noise=0.0).having(batch_size=8))
    ended = launch_two(tmp_path / "two", "--max_restarts", "1", failure="killed@25")
    assert ended.returncode == 0, ended.stderr
    a, b = (checkpoint.load(tmp_path / run / "checkpoint-00000030") for run in ("one", "two"))
    for name, value in a.tensors["model"].items():
        torch.testing.assert_close(b.tensors["model"][name], value, rtol=1e-5, atol=1e-6)
    steps = [line["step"] for line in events(tmp_path / "two") if "train_step/loss" in line]
    assert steps == [5, 10, 15, 20, 25, 30]


def test_an_error_in_one_process_ends_the_job_with_its_words(tmp_path: Path):
    began = time.monotonic()
    ended = launch_two(tmp_path / "two", failure="raised@13")
    assert ended.returncode != 0 and "the second process has had enough" in ended.stderr
    assert time.monotonic() - began < 120
    assert checkpoint.latest(tmp_path / "two") == tmp_path / "two/checkpoint-00000010"


def launch_sharded(run: Path, *flags: str, file: str = "fsdp2.yaml") -> subprocess.CompletedProcess[str]:
    return launch(
        "-m", "accelerate.commands.launch", "--config_file", str(ROOT / "accelerate_configs" / file),
        "--num_processes", "2", str(TINY), "--run", str(run), "--noise", "0", "--optimizer.kind", "adamw",
        "--trainer.batch-size", "4", *flags,
    )  # fmt: skip


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


def test_processes_that_would_each_train_alone_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    processes()  # Accelerate keeps what it first saw
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="started 2 processes, Accelerate sees 1"):
        fit(TinyConfig(run=tmp_path))


def test_accumulated_micro_steps_train_like_one_batch(tmp_path: Path):
    config = TinyConfig(run=tmp_path / "a", noise=0.0)
    config = replace(config, loss=replace(config.loss, normalize=False))
    whole = fit(config.having(batch_size=8, steps=10))
    pieces = fit(replace(config, run=tmp_path / "b").having(batch_size=2, accumulate=4, steps=10))
    for name in whole.keys() - {"updates"}:
        torch.testing.assert_close(pieces[name], whole[name], rtol=1e-5, atol=1e-6)


def test_a_loss_that_is_not_finite_stops_the_run_before_a_checkpoint(tmp_path: Path):
    class Exploding(Model):
        def forward(self, batch: Sample) -> dict[str, Tensor]:
            losses = super().forward(batch)
            return losses | {"video": losses["video"] * float("inf")} if self.updates == 10 else losses

    with pytest.raises(UserError, match=r"step 10: not finite .video inf, volume"):
        fit(TinyConfig(run=tmp_path), Exploding())
    assert not list(tmp_path.glob("checkpoint-*"))


def test_a_loss_without_a_weight_stops_the_run(tmp_path: Path):
    with pytest.raises(UserError, match="loss 'volume' has no weight"):
        fit(TinyConfig(run=tmp_path), weights={"video": 1.0})


def test_evaluators_and_the_caller_get_the_averaged_weights(tmp_path: Path):
    final = fit(TinyConfig(run=tmp_path), evaluators=[numbers])
    trained = checkpoint.load(tmp_path / "checkpoint-00000030").tensors
    seen = [line["first_weight"] for line in events(tmp_path) if "first_weight" in line]
    assert len(seen) == 3 and seen[-1] == float(final["body.0.weight"][0, 0])
    assert torch.equal(final["body.0.weight"], trained["ema"]["body.0.weight"])
    assert not torch.equal(final["body.0.weight"], trained["model"]["body.0.weight"])


def test_overfitting_uses_only_the_first_sample(tmp_path: Path):
    seen = set()

    class Watching(Model):
        def forward(self, batch: Sample) -> dict[str, Tensor]:
            seen.update(batch.y.flatten().tolist())
            return super().forward(batch)

    fit(TinyConfig(run=tmp_path, noise=0.0).having(overfit_one_sample=True, steps=60, ema=0.0), Watching())
    assert len(seen) == 1
    losses = [line["val/volume_loss"] for line in events(tmp_path) if "val/volume_loss" in line]
    assert losses[-1] < losses[0] / 10


def test_a_checkpoint_of_other_settings_is_refused(whole: tuple[Path, dict[str, Tensor]], tmp_path: Path):
    run = tmp_path / "run"
    shutil.copytree(whole[0], run)
    config = noisy(run)
    with pytest.raises(UserError, match=r"trainer.batch_size \(was 4, now 5\)"):
        fit(config.having(batch_size=5))
    with pytest.raises(UserError, match=r"past --trainer.steps 20; give at least 30"):
        fit(config.having(steps=20))
    state = run / "checkpoint-00000030/state.json"
    state.write_text(state.read_text().replace('"processes": 1', '"processes": 2'))
    with pytest.raises(UserError, match=r"made with 32 samples a step \(2 processes\), this launch has 16"):
        fit(config)


def test_frozen_weights_stay(tmp_path: Path):
    model = Model()
    model.body.requires_grad_(False)
    before = [value.clone() for value in model.body.parameters()]
    fit(TinyConfig(run=tmp_path), model)
    assert all(map(torch.equal, before, nn.Module.parameters(model.body)))


@pytest.mark.parametrize(
    ("variable", "name"),
    [("ACCELERATE_USE_DEEPSPEED", "DeepSpeed"), ("ACCELERATE_USE_MEGATRON_LM", "Megatron-LM")],
)
def test_other_ways_to_divide_weights_are_refused_by_name(tmp_path, monkeypatch, variable, name):
    monkeypatch.setenv(variable, "true")
    with pytest.raises(UserError, match=rf"asks for {name}; .*accelerate_configs/zero2\.yaml"):
        fit(TinyConfig(run=tmp_path))
