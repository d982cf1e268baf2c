from __future__ import annotations

import json
from pathlib import Path

import pytest

from vidpara.cli import UserError
from vidpara.report.runs import read_run


def write_run(folder: Path, events: list[dict], batch_size: int = 16) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(f"trainer:\n  batch_size: {batch_size}\n  accumulate: 2\n")
    (folder / "metrics.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    return folder


def test_curves_follow_steps_and_training_time(tmp_path: Path):
    events = [
        {"step": 10, "train_step/loss": 3.0, "train_step/samples_per_second": 32.0},
        {"step": 20, "train_step/loss": 2.0, "train_step/samples_per_second": 64.0},
        {"step": 20, "val/loss": 2.5, "val/pixel_error": None},
    ]
    run = read_run(write_run(tmp_path / "two_stage", events))
    assert run.name == "two_stage"
    assert run.curves["train_step/loss"] == ((10, 20), (10.0, 15.0), (3.0, 2.0))
    assert run.curves["val/loss"] == ((20,), (15.0,), (2.5,))
    assert "val/pixel_error" not in run.curves


def test_the_newest_picture_of_each_name_is_shown(tmp_path: Path):
    events = [{"step": s, "vis/val_strip": f"vis/val_strip_{s}.png"} for s in (10, 20, 30)]
    run = write_run(tmp_path / "run", events)
    (run / "vis").mkdir()
    for step in (10, 20):
        (run / f"vis/val_strip_{step}.png").write_bytes(b"")
    assert read_run(run).media == {"vis/val_strip": run / "vis/val_strip_20.png"}


def test_a_line_that_a_killed_run_left_unfinished_is_skipped(tmp_path: Path):
    run = write_run(tmp_path / "run", [{"step": 1, "train_step/loss": 1.0}])
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2, "train_st')
    assert read_run(run).curves["train_step/loss"].values == (1.0,)


def test_a_folder_without_metrics_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match=r"metrics\.jsonl does not exist"):
        read_run(tmp_path)


def test_training_time_counts_the_processes_that_ran(tmp_path: Path):
    """Two processes from the start, four from step 10 on: speeds are those of all of them."""
    events = [{"step": s, "train_step/loss": 1.0, "train_step/samples_per_second": 64.0} for s in (10, 20)]
    run = write_run(tmp_path / "run", events)
    starts = [{"step": 0, "processes": 2}, {"step": 10, "processes": 4}]
    (run / "starts.jsonl").write_text("".join(json.dumps(start) + "\n" for start in starts))
    assert read_run(run).curves["train_step/loss"].seconds == (10.0, 30.0)
