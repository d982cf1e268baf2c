"""An experiment from its file to its results and page, in the real simulator: a committed policy, two tests of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

pytest.importorskip("libero")
pytestmark = pytest.mark.sim

ROOT = Path(__file__).parents[1]


def experiment(folder: Path) -> Path:
    """Thirty control steps of one episode: enough to see what becomes of it, too few to place anything."""
    content = {
        "name": "small",
        "runs": str(folder / "runs"),
        "results": str(folder / "results"),
        "cells": {"given": {"policy": "checkpoints/pocket_two_stage"}},
        "evaluate": {
            "files": ["configs/evaluation/grid.yaml"],
            "set": {"episodes": 1, "max_steps": 30, "videos": 1},
        },
        "tests": {"right": {}, "wrong": {"camera_error": 5}},
        "compare": [["given-right", "given-wrong"]],
    }
    file = folder / "small.yaml"
    file.write_text(yaml.safe_dump(content))
    return file


def reproduce(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "stages/reproduce.py", *words],
        cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_an_experiment_runs_once_and_leaves_its_results(tmp_path: Path):
    file = experiment(tmp_path)
    done = reproduce(str(file))
    assert done.returncode == 0, done.stderr
    assert "given-right: PLACE 0/1" in done.stdout and "given-wrong: PLACE 0/1" in done.stdout
    results = tmp_path / "results"
    assert "| given-right | given-wrong | 0 | 0 | 1 |" in (results / "table.md").read_text()
    assert json.loads((results / "given-wrong.json").read_text())["config"]["camera_error"] == 5
    left = {path.name for path in results.iterdir()}
    assert {"success.png", "positions.png", "given-right.mp4", "given-right-vs-given-wrong.mp4"} <= left
    page = (results / "page.html").read_text()
    assert "told one turned by 5" in page and "given-right-vs" not in page

    listed = reproduce(str(file), "--dry_run").stdout.splitlines()
    assert len(listed) == 2 and all(line.startswith("finished") for line in listed)


def test_a_comparison_of_no_cell_is_one_line(tmp_path: Path):
    file = experiment(tmp_path)
    file.write_text(file.read_text().replace("- - given-right", "- - given-rigth"))
    wrong = reproduce(str(file), "--dry_run")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr.count("\n") == 1 and "did you mean 'given-right'" in wrong.stderr
