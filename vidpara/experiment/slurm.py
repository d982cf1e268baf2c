"""Steps as jobs of a Slurm cluster, through submitit. They outlive an experiment that loses its terminal or is killed,
and the same command finds them again; Ctrl-C cancels them."""

from __future__ import annotations

import importlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vidpara.cli import UserError
from vidpara.experiment import executors
from vidpara.experiment.executors import PATIENCE, Job
from vidpara.experiment.plan import Step

GOES_ON = ("READY", "PENDING", "RUNNING", "REQUEUED", "COMPLETING", "PREEMPTED")
"""States in which submitit waits for a job. One of which Slurm says nothing is taken for over."""
REFUSED = (NameError, AssertionError, TypeError, ValueError)
"""What submitit raises where a setting is none of its own, or holds the wrong thing."""
INTO = ("bash", "-c", 'exec "$@" >> "$0" 2>&1')
"""Runs a command with all that it says appended to a file: the step's log, where the live table reads its progress."""


class Slurm:
    """Jobs of a Slurm cluster; `settings` are submitit's (`slurm_partition=gpu`, `gpus_per_node=1`, ...)."""

    def __init__(self, jobs: int, folder: Path, settings: Sequence[str]) -> None:
        try:
            self._submitit = importlib.import_module("submitit")
        except ModuleNotFoundError as missing:
            raise UserError(
                "--executor slurm needs the package 'submitit'; pip install -e '.[slurm]'"
            ) from missing
        if jobs < 1:
            raise UserError(
                f"--jobs {jobs}; give how many of the cluster's jobs may be there at once, 1 or more"
            )
        if bad := [pair for pair in settings if "=" not in pair]:
            raise UserError(f"--slurm {bad[0]}: expected NAME=VALUE, such as slurm_partition=gpu")
        try:
            self._executor = self._submitit.AutoExecutor(folder=str(folder), cluster="slurm")
        except RuntimeError as error:
            raise UserError(f"--executor slurm: {error}; start it where 'srun' is") from error
        pairs = (pair.split("=", 1) for pair in settings)
        try:
            self._executor.update_parameters(**{k: int(v) if v.isdecimal() else v for k, v in pairs})
        except REFUSED as error:
            raise UserError(f"--slurm {' '.join(settings)}: submitit does not take this ({error})") from error
        self._folder, self._jobs = folder, jobs
        self._running: list[_Submitted] = []

    @property
    def free(self) -> int:
        self._running = [job for job in self._running if job.poll() is None]
        return self._jobs - len(self._running)

    def start(self, step: Step, alone: bool) -> Job:
        """Submit the step, or wait for the job that an earlier call submitted for it."""
        step.log.parent.mkdir(parents=True, exist_ok=True)
        note = step.log.with_suffix(".job")
        job = self._earlier(note) or self._executor.submit(
            self._submitit.helpers.CommandFunction(
                [*INTO, str(step.log.absolute()), *executors.command(step)], verbose=False
            )
        )
        note.write_text(job.job_id)
        submitted = _Submitted(job, note)
        self._running.append(submitted)
        return submitted

    def _earlier(self, note: Path) -> Any:
        if not note.is_file():
            return None
        job = self._submitit.SlurmJob(self._folder, note.read_text())
        return job if job.get_info(mode="force").get("State", "").split(" ")[0] in GOES_ON else None


class _Submitted:
    def __init__(self, job: Any, note: Path) -> None:
        self._job, self._note = job, note

    def poll(self) -> int | None:
        if not self._job.done():
            return None
        self._note.unlink(missing_ok=True)
        return 0 if self._job.exception() is None else 1

    def stop(self) -> None:
        self._job.cancel()
        ends = time.monotonic() + PATIENCE
        # Forced: by itself submitit asks Slurm about an older job only once a minute.
        while not self._job.done(force_check=True) and time.monotonic() < ends:
            time.sleep(1)

    def leave(self) -> None:
        """Its note names the job to whoever comes next."""
