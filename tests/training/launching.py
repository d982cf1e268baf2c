"""Commands in processes of their own, and what they logged."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]
TINY = Path(__file__).with_name("tiny.py")
POCKET = Path(__file__).with_name("pocket.py")


def launch(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python with this command; one that hangs is ended with all the processes that it started.

    `subprocess.run` would end the launcher alone and go on waiting for the processes that hold its output open.
    """
    path = os.pathsep.join((str(ROOT), str(ROOT / "tests")))
    with subprocess.Popen(
        [sys.executable, *command],
        env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"} | environment,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    ) as started:  # fmt: skip
        try:
            said, errors = started.communicate(timeout=300)
        except BaseException:
            launcher = psutil.Process(started.pid)
            for each in (*launcher.children(recursive=True), launcher):
                each.kill()
            raise
    return subprocess.CompletedProcess(command, started.returncode, said, errors)


def launch_two(
    file: str, stage: Path, *flags: str, launcher: tuple[str, ...] = (), **environment: str
) -> subprocess.CompletedProcess[str]:
    """A stage in two processes, through the shipped launch file of that name."""
    where = ["--config_file", str(ROOT / "accelerate_configs" / file), "--num_processes", "2", *launcher]
    return launch("-m", "accelerate.commands.launch", *where, str(stage), *flags, **environment)


def events(run: Path) -> list[dict[str, float]]:
    """The log without what depends on the clock."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if "per_second" not in key} for line in lines]
