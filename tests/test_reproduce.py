"""An experiment from its file to its results and page, in the real simulator: one episode of a committed policy."""

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


def test_an_experiment_runs_once_and_leaves_its_results(tmp_path: Path):
    """Thirty control steps: enough to see what becomes of an episode, too few to place anything."""
    content = {
        "name": "small",
        "runs": str(tmp_path / "runs"),
        "results": str(tmp_path / "results"),
        "cells": {"given": {"policy": "checkpoints/pocket_two_stage"}},
        "evaluate": {
            "files": ["configs/evaluation/grid.yaml"],
            "set": {"episodes": 1, "max_steps": 30, "videos": 1},
        },
        "tests": {"wrong": {"camera_error": 5}},
    }
    file = tmp_path / "small.yaml"
    file.write_text(yaml.safe_dump(content))
    done = subprocess.run(
        [sys.executable, "stages/reproduce.py", str(file)],
        cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "given-wrong: PLACE 0/1" in done.stdout
    results = tmp_path / "results"
    assert json.loads((results / "given-wrong.json").read_text())["config"]["camera_error"] == 5
    left = {path.name for path in results.iterdir()}
    assert {"table.md", "success.png", "positions.png", "given-wrong.mp4", "cells.json"} <= left
    assert "told one turned by 5" in (results / "page.html").read_text()
