"""The one loop, on a tiny model."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from training.launching import TINY, events, launch, launch_two
from training.tiny import Model, Sample, TinyConfig, fit, numbers

from vidpara.cli import UserError
from vidpara.training import checkpoint
from vidpara.training.optimizer import ParamGroup, lr_at
from vidpara.training.processes import processes
from vidpara.versions import STARTS


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
    [(signal.SIGKILL, 25, 0, 20), (signal.SIGINT, 13, 1, 13), (signal.SIGTERM, 13, 1, 13)],
    ids=["kill", "ctrl_c", "terminate"],
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
    starts = [json.loads(line) for line in (run / STARTS).read_text().splitlines()]
    assert [(start["step"], start["precision"]) for start in starts] == [(0, "no"), (left, "no")]
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


def test_a_run_does_not_go_on_with_other_data(whole: tuple[Path, dict[str, Tensor]]):
    """Not even a finished one: its stage would then save what it made of the other data beside the old weights."""
    with pytest.raises(UserError, match=r"checkpoint-00000030 was made with other data: .*another --run"):
        fit(noisy(whole[0]), content="of other episodes")


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
    ended = launch_two(
        "cpu_2.yaml",
        TINY,
        "--run",
        str(two),
        "--noise",
        "0",
        "--trainer.batch-size",
        "4",
        "--trainer.steps",
        "10",
    )
    assert ended.returncode == 0, ended.stderr
    a, b = (checkpoint.load(run / "checkpoint-00000010") for run in (one, two))
    assert (a.state["processes"], b.state["processes"]) == (1, 2)
    for kind in ("model", "ema"):
        for name, value in a.tensors[kind].items():
            torch.testing.assert_close(b.tensors[kind][name], value, rtol=1e-5, atol=1e-6)
    for ours, theirs in zip(events(one), events(two), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5)


def launch_failing(
    run: Path, *launcher: str, failure: str, by: str = "accelerate"
) -> subprocess.CompletedProcess[str]:
    flags = ("--run", str(run), "--noise", "0", "--trainer.batch-size", "4")
    if by == "accelerate":
        return launch_two("cpu_2.yaml", TINY, *flags, launcher=launcher, TINY_FAILURE=failure)
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *launcher, "--")
    return launch(*torchrun, str(TINY), *flags, TINY_FAILURE=failure)


@pytest.mark.parametrize("by", ["accelerate", "torchrun"])
def test_a_killed_process_is_restarted_and_the_job_goes_on_from_its_checkpoint(tmp_path: Path, by: str):
    fit(TinyConfig(run=tmp_path / "one", noise=0.0).having(batch_size=8))
    ended = launch_failing(tmp_path / "two", "--max_restarts", "1", failure="killed@25", by=by)
    assert ended.returncode == 0, ended.stderr
    a, b = (checkpoint.load(tmp_path / run / "checkpoint-00000030") for run in ("one", "two"))
    for name, value in a.tensors["model"].items():
        torch.testing.assert_close(b.tensors["model"][name], value, rtol=1e-5, atol=1e-6)
    steps = [line["step"] for line in events(tmp_path / "two") if "train_step/loss" in line]
    assert steps == [5, 10, 15, 20, 25, 30]


def test_an_error_in_one_process_ends_the_job_with_its_words(tmp_path: Path):
    began = time.monotonic()
    ended = launch_failing(tmp_path / "two", failure="raised@13")
    assert ended.returncode != 0 and "the second process has had enough" in ended.stderr
    assert time.monotonic() - began < 120
    assert checkpoint.latest(tmp_path / "two") == tmp_path / "two/checkpoint-00000010"


def test_processes_that_would_each_train_alone_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    processes()  # Accelerate keeps what it first saw
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="started 2 processes, Accelerate sees 1"):
        fit(TinyConfig(run=tmp_path))


def test_processes_that_see_different_folders_are_told_so_at_once(tmp_path: Path):
    fit(TinyConfig(run=tmp_path / "0", noise=0.0).having(batch_size=8, steps=10))
    flags = ("--run", str(tmp_path), "--noise", "0", "--trainer.batch-size", "4")
    began = time.monotonic()
    ended = launch_two("cpu_2.yaml", TINY, *flags, TINY_APART="1")
    assert ended.returncode != 0 and time.monotonic() - began < 120
    assert ended.stderr.count("(process 0 step 10, process 1 none); --run must be on a disk that all") == 2


def test_accumulated_micro_steps_train_like_one_batch(tmp_path: Path):
    config = TinyConfig(run=tmp_path / "a", noise=0.0)
    config = replace(config, loss=replace(config.loss, normalize=False))
    whole = fit(config.having(batch_size=8, steps=10))
    pieces = fit(replace(config, run=tmp_path / "b").having(batch_size=2, accumulate=4, steps=10))
    for name in whole.keys() - {"updates"}:
        torch.testing.assert_close(pieces[name], whole[name], rtol=1e-5, atol=1e-6)


def test_losses_are_normalised_by_as_many_updates_whatever_the_number_of_micro_steps(tmp_path: Path):
    class Falling(Model):
        def forward(self, batch: Sample) -> dict[str, Tensor]:
            losses = super().forward(batch)
            level = 2.0 if self.updates <= 20 * accumulate else 1.0
            return {name: level + 0 * loss for name, loss in losses.items()}

    averages = []
    for accumulate in (1, 4):
        fit(TinyConfig(run=tmp_path / str(accumulate)).having(accumulate=accumulate), Falling())
        saved = checkpoint.load(tmp_path / str(accumulate) / "checkpoint-00000030")
        averages.append(saved.state["weights"]["average"])
    assert averages[0] == pytest.approx(averages[1], rel=1e-5)


def test_a_loss_that_is_not_finite_stops_the_run_before_a_checkpoint(tmp_path: Path):
    class Exploding(Model):
        def forward(self, batch: Sample) -> dict[str, Tensor]:
            losses = super().forward(batch)
            return losses | {"video": losses["video"] * float("inf")} if self.updates == 10 else losses

    with pytest.raises(UserError, match=r"step 10: not finite .video inf, volume"):
        fit(TinyConfig(run=tmp_path), Exploding())
    assert not list(tmp_path.glob("checkpoint-*"))


def test_an_unfinished_run_goes_on_with_another_learning_rate_and_a_finished_one_does_not(
    tmp_path: Path, capsys: pytest.CaptureFixture
):
    """What the error of a loss that is not finite advises."""

    class Exploding(Model):
        def forward(self, batch: Sample) -> dict[str, Tensor]:
            losses = super().forward(batch)
            return losses | {"video": losses["video"] * float("inf")} if self.updates == 15 else losses

    config = TinyConfig(run=tmp_path)
    with pytest.raises(UserError, match=r"step 15: not finite .*Lower --optimizer.lr"):
        fit(config, Exploding())
    slower = replace(config, optimizer=replace(config.optimizer, lr=5e-3))
    fit(slower)
    said = "optimizer.lr (was 0.01, now 0.005)"
    assert f"goes on from step 10 with other settings: {said}" in capsys.readouterr().out
    starts = [json.loads(line) for line in (tmp_path / STARTS).read_text().splitlines()]
    assert [(start["step"], start["changed"]) for start in starts] == [(0, []), (10, [said])]
    rates = {line["step"]: line["train_step/lr"] for line in events(tmp_path) if "train_step/lr" in line}
    assert rates[10] == pytest.approx(lr_at(9, 30, config.optimizer))
    assert rates[15] == pytest.approx(lr_at(14, 30, slower.optimizer))
    with pytest.raises(UserError, match=r"another configuration: optimizer.lr \(was 0.005, now 0.01\)\."):
        fit(config)


def test_the_logged_learning_rate_is_that_of_the_only_group(tmp_path: Path):
    """Stage one's is the backbone's, not `optimizer.lr`."""
    config, model = TinyConfig(run=tmp_path), Model()
    fit(config, model, groups=[ParamGroup("video", list(model.parameters()), 1e-4)])
    rates = [line["train_step/lr"] for line in events(tmp_path) if "train_step/lr" in line]
    assert max(rates) <= 1e-4 and rates[0] == pytest.approx(lr_at(4, 30, config.optimizer, 1e-4))


def test_a_run_that_goes_on_does_not_pass_for_finished(tmp_path: Path):
    """Its earlier weights would be taken for those of the longer training, if that is stopped."""
    config, product = TinyConfig(run=tmp_path), tmp_path / "weights"
    locked = []

    def save(model: nn.Module) -> None:
        product.mkdir(exist_ok=True)
        locked.append((tmp_path / "run.lock").exists())

    class Stopped(Model):
        def forward(self, batch: Sample) -> dict[str, Tensor]:
            assert not product.exists()
            raise KeyboardInterrupt

    fit(config, save=save, products=["weights"])
    fit(config, save=save, products=["weights"])  # a finished run is saved once more
    assert product.exists() and locked == [True, True]
    with pytest.raises(KeyboardInterrupt):
        fit(config.having(steps=40), Stopped(), save=save, products=["weights"])
    assert not product.exists() and len(locked) == 2


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


def test_autocast_keeps_no_half_precision_copies_of_the_weights(tmp_path: Path):
    """Its cache would hold one of each until the forward is over: of SVD's UNet 2.75 GiB."""
    caches = []

    class Watched(Model):
        def forward(self, batch: Sample) -> dict[str, Tensor]:
            caches.append((torch.is_autocast_enabled("cpu"), torch.is_autocast_cache_enabled()))
            return super().forward(batch)

    fit(TinyConfig(run=tmp_path).having(precision="bf16", steps=1), Watched())
    assert set(caches[:1]) == {(True, False)}


def test_a_warmup_as_long_as_the_run_is_said_to_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    config = TinyConfig(run=tmp_path)
    fit(replace(config, optimizer=replace(config.optimizer, warmup=30)))
    assert "optimizer.warmup 30 is as long as the run (30 steps)" in capsys.readouterr().out
    fit(replace(config, run=tmp_path / "other"))
    assert "warmup" not in capsys.readouterr().out


def test_frozen_weights_stay(tmp_path: Path):
    model = Model()
    model.body.requires_grad_(False)
    before = [value.clone() for value in model.body.parameters()]
    fit(TinyConfig(run=tmp_path), model)
    assert all(map(torch.equal, before, nn.Module.parameters(model.body)))


def test_a_finished_run_without_its_checkpoints_is_not_begun_again(tmp_path: Path):
    config = TinyConfig(run=tmp_path / "run")

    def save(trained: nn.Module) -> None:
        (config.run / "weights").write_text("finished")

    fit(config, save=save, products=["weights"])
    lines = (config.run / "metrics.jsonl").read_text()
    for folder in config.run.glob("checkpoint-*"):  # to save space, or they were never fetched from the hub
        shutil.rmtree(folder)
    with pytest.raises(UserError, match=r"holds a finished run \(weights\) and no checkpoint"):
        fit(config, save=save, products=["weights"])
    assert (config.run / "weights").read_text() == "finished"
    assert (config.run / "metrics.jsonl").read_text() == lines


def test_what_a_run_begins_with_is_kept_before_its_first_step(tmp_path: Path):
    config, begun = TinyConfig(run=tmp_path / "run"), []

    def begin() -> None:
        begun.append((config.run / "config.yaml").is_file() and not (config.run / "metrics.jsonl").exists())

    fit(config, begin=begin)
    assert begun == [True]
