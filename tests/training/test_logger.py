"""The log of a run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import wandb

from vidpara.cli import UserError
from vidpara.config import TrainerConfig
from vidpara.training.logger import Logger
from vidpara.training.pending_losses import PendingLosses

QUIET = TrainerConfig(wandb="disabled")


def lines(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_events_after_the_checkpoint_are_dropped(tmp_path: Path):
    events = "".join(f'{{"step": {step}, "loss": {step}.5}}\n' for step in (1, 2, 2, 3))
    (tmp_path / "metrics.jsonl").write_text(events + '{"step": 1, "lo')
    log = Logger(tmp_path, 2, QUIET, {})
    log.write(3, {"loss": float("nan")})
    log.close()
    assert [(line["step"], line["loss"]) for line in lines(tmp_path)] == [
        (1, 1.5),
        (2, 2.5),
        (2, 2.5),
        (3, None),
    ]


def test_pictures_end_up_below_the_run(tmp_path: Path):
    run, elsewhere = tmp_path / "run", tmp_path / "a.png"
    (run / "figures").mkdir(parents=True)
    elsewhere.write_bytes(b"outside")
    (run / "figures/b.png").write_bytes(b"inside")
    log = Logger(run, 0, QUIET, {})
    log.write(4, {"outside": elsewhere, "inside": run / "figures/b.png"})
    log.close()
    assert lines(run) == [{"step": 4, "outside": "media/00000004/a.png", "inside": "figures/b.png"}]
    assert (run / "media/00000004/a.png").read_bytes() == b"outside"


def test_wandb_stays_inside_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "run"
    run.mkdir()
    log = Logger(run, 0, TrainerConfig(wandb="offline"), {"seed": 0})
    log.write(1, {"loss": 1.0})
    log.close()
    assert list(run.glob("wandb/offline-run-*/*.wandb")) and [path.name for path in tmp_path.iterdir()] == [
        "run"
    ]


def test_wandb_that_does_not_start_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """W&B is a fake here: the real one asks its server."""

    def init(**settings: object) -> None:
        raise wandb.Error("api_key not configured\n(no-tty)")

    monkeypatch.setattr(wandb, "init", init)
    with pytest.raises(UserError, match=r"\(api_key not configured \(no-tty\)\); log in with `wandb login`"):
        Logger(tmp_path, 0, TrainerConfig(wandb="online"), {})


def test_the_first_step_that_is_not_finite_is_named():
    pending = PendingLosses(check_gradient=True)
    for step, loss in ((1, 1.0), (2, float("nan")), (3, float("nan"))):
        pending.add(step, ("video", "volume"), torch.tensor([loss, 2.0, 0.0]), torch.tensor(1.0))
    with pytest.raises(UserError, match=r"step 2: not finite .video nan, volume 2"):
        pending.read()
