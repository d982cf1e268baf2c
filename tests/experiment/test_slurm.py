"""Steps as jobs of a cluster, through the real submitit. Slurm's own programs are small scripts here, that run a job on
this machine and remember its state: there is no cluster where the tests run.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
import submitit

from vidpara.cli import UserError
from vidpara.experiment import execute, executors, slurm
from vidpara.experiment.declare import Experiment, Recipe
from vidpara.experiment.execute import Standing
from vidpara.experiment.executors import Left
from vidpara.experiment.plan import Plan, Step

PROGRAMS = {
    # Starts the script that is its last word, as a job with the next number.
    "sbatch": """
        id=$(( $(ls "$JOBS" | wc -l) + 1 ))
        export SLURM_JOB_ID=$id SLURM_NTASKS=1 SLURM_JOB_NUM_NODES=1 SLURM_NODEID=0 SLURM_PROCID=0 SLURM_LOCALID=0
        echo RUNNING > "$JOBS/$id"
        script="${!#}"
        # the last state is there at once: `sacct` may look at any time, and what it finds empty would be over
        setsid bash -c 'bash "$1" && s=COMPLETED || s=FAILED; echo $s > "$2" && mv "$2" "$3"' \
            _ "$script" "$(mktemp -p "${JOBS%/*}")" "$JOBS/$id" &> /dev/null &
        echo "Submitted batch job $id"
    """,
    # Runs the command behind its flags.
    "srun": """
        while [[ $1 == -* ]]; do [[ $1 == --unbuffered ]] && shift || shift 2; done
        exec "$@"
    """,
    # The states of the jobs that are asked for: -j ID -j ID ...
    "sacct": """
        echo "JobID|State|NodeList"
        while [[ $# -gt 0 ]]; do
            [[ $1 == -j ]] && echo "$2|$(cat "$JOBS/$2")|here"
            shift
        done
    """,
    "scancel": """echo "CANCELLED by 0" > "$JOBS/$1" """,
}


@pytest.fixture(autouse=True)
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the jobs' states. Every test has a job 1, and submitit remembers which have ended."""
    submitit.SlurmJob.watcher.clear()
    programs, jobs = tmp_path / "bin", tmp_path / "jobs"
    programs.mkdir()
    jobs.mkdir()
    for name, body in PROGRAMS.items():
        (programs / name).write_text(f"#!/bin/bash\n{body}")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("JOBS", str(jobs))
    monkeypatch.setattr(executors, "command", lambda step: [sys.executable, "-c", *step.words])
    monkeypatch.setattr(execute, "INTERVAL", 0.05)
    return jobs


def script(name: str, body: str, folder: Path) -> Step:
    """A step that writes its product after `body` has run."""
    product = folder / name / "product"
    product.parent.mkdir(exist_ok=True)
    program = f"import pathlib, sys, time; {body}; pathlib.Path({str(product)!r}).write_text('done')"
    return Step(name, "script", (program,), name, (), product, product.with_suffix(".log"))


def run(folder: Path, *steps: Step) -> Mapping[str, Standing]:
    plan = Plan(Experiment("scripts", {}, Recipe()), (), {step.name: step for step in steps})
    return execute.run(plan, slurm.Slurm(2, folder / "slurm", ["timeout_min=5"]), lambda _: None)


def test_steps_run_as_jobs_and_what_they_say_is_in_their_logs(tmp_path: Path, cluster: Path):
    good = script("good", "print('half way', flush=True)", tmp_path)
    bad = script("bad", "sys.exit('error: the disk is full')", tmp_path)
    found = run(tmp_path, good, bad)
    assert {name: now.state for name, now in found.items()} == {"good": "finished", "bad": "failed"}
    assert found["bad"].note.startswith("error: the disk is full")
    assert good.log.read_text() == "half way\n"
    assert len(list(cluster.iterdir())) == 2 and not list(tmp_path.glob("*/*.job"))


def test_a_job_that_outlived_its_experiment_is_waited_for_and_not_started_again(
    tmp_path: Path, cluster: Path
):
    step = script("long", f"open({str(tmp_path / 'began')!r}, 'a').write('x'); time.sleep(2)", tmp_path)
    slurm.Slurm(2, tmp_path / "slurm", []).start(step, True)  # and the experiment is killed
    assert step.log.with_suffix(".job").read_text() == "1"
    assert run(tmp_path, step)["long"].state == "finished"
    assert (tmp_path / "began").read_text() == "x" and len(list(cluster.iterdir())) == 1


def test_a_job_that_is_over_without_its_product_is_submitted_again(tmp_path: Path, cluster: Path):
    step = script("lost", "time.sleep(0.1)", tmp_path)
    step.log.with_suffix(".job").write_text("1")
    (cluster / "1").write_text("TIMEOUT\n")
    assert run(tmp_path, step)["lost"].state == "finished"
    assert sorted(job.name for job in cluster.iterdir()) == ["1", "2"]


def begun_and_ended_by(end: type[BaseException], step: Step, folder: Path, cluster: Path) -> None:
    """An experiment of one step, ended as soon as its job is there."""

    def ended(_: Mapping[str, Standing]) -> None:
        if (cluster / "1").exists():
            raise end

    plan = Plan(Experiment("scripts", {}, Recipe()), (), {step.name: step})
    with pytest.raises(end):
        execute.run(plan, slurm.Slurm(1, folder / "slurm", []), ended)


def test_an_interrupt_cancels_the_jobs(tmp_path: Path, cluster: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(slurm, "PATIENCE", 0.1)
    begun_and_ended_by(KeyboardInterrupt, script("long", "time.sleep(5)", tmp_path), tmp_path, cluster)
    assert (cluster / "1").read_text() == "CANCELLED by 0\n"


def test_a_lost_terminal_leaves_the_jobs_and_the_same_command_finds_them(tmp_path: Path, cluster: Path):
    step = script("long", f"open({str(tmp_path / 'began')!r}, 'a').write('x'); time.sleep(1)", tmp_path)
    begun_and_ended_by(Left, step, tmp_path, cluster)
    assert step.log.with_suffix(".job").read_text() == "1"
    assert run(tmp_path, step)["long"].state == "finished"
    assert (tmp_path / "began").read_text() == "x" and len(list(cluster.iterdir())) == 1


def test_an_error_of_the_experiment_leaves_the_jobs(tmp_path: Path, cluster: Path):
    """Where a terminal goes away, writing to it may fail before the signal comes."""
    begun_and_ended_by(OSError, script("long", "time.sleep(1)", tmp_path), tmp_path, cluster)
    assert not (cluster / "1").read_text().startswith("CANCELLED")


@pytest.mark.parametrize(
    ("number", "end"), [(signal.SIGHUP, Left), (signal.SIGTERM, Left), (signal.SIGINT, KeyboardInterrupt)]
)
def test_signals_say_whether_the_experiment_is_left(number: int, end: type[BaseException]):
    program = (
        "import os, signal; from vidpara.experiment.executors import answer_signals, Left\n"
        "signal.signal(signal.SIGHUP, signal.SIG_DFL); answer_signals()\n"
        f"try: os.kill(os.getpid(), {int(number)}); signal.pause()\n"
        "except BaseException as end: print(type(end).__name__)"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == end.__name__


def test_an_old_job_that_is_cancelled_is_not_waited_for(
    tmp_path: Path, cluster: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(slurm, "PATIENCE", 6)
    job = slurm.Slurm(1, tmp_path / "slurm", []).start(script("long", "time.sleep(10)", tmp_path), True)
    assert job.poll() is None
    watcher = submitit.SlurmJob.watcher
    watcher._start_time, watcher._last_status_check = time.time() - 3600, time.time()
    began = time.monotonic()
    job.stop()
    assert time.monotonic() - began < 5 and (cluster / "1").read_text() == "CANCELLED by 0\n"


def test_wrong_settings_and_no_cluster_are_clear_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(UserError, match="--slurm gpu: expected NAME=VALUE"):
        slurm.Slurm(1, tmp_path / "slurm", ["gpu"])
    for wrong in ("slurm_foo=1", "timeout_min=soon"):
        with pytest.raises(UserError, match=f"--slurm {wrong}: submitit does not take this"):
            slurm.Slurm(1, tmp_path / "slurm", [wrong])
    with pytest.raises(UserError, match="--jobs 0; give how many"):
        slurm.Slurm(0, tmp_path / "slurm", [])
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"--executor slurm: .*srun"):
        slurm.Slurm(1, tmp_path / "slurm", [])
