"""Where steps run: processes of this machine (a Slurm cluster: slurm.py)."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import torch

from vidpara.cli import UserError
from vidpara.cores import cores
from vidpara.experiment.plan import Step

PATIENCE = 120
"""Seconds that an interrupted step has to save what it finished."""

PR_SET_PDEATHSIG = 1
"""prctl(2)."""


class Left(KeyboardInterrupt):
    """The experiment ends because its terminal or its machine goes away (SIGHUP, SIGTERM), and not by Ctrl-C."""


def answer_signals() -> None:
    """Ctrl-C stops all steps. Where the terminal or the machine goes away, steps that can run without it do."""

    def leave(number: int, frame: object) -> None:
        raise Left

    signal.signal(signal.SIGINT, signal.default_int_handler)  # also where a shell had it ignored
    signal.signal(signal.SIGTERM, leave)
    if signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:  # a lost connection, but not under nohup
        signal.signal(signal.SIGHUP, leave)


@runtime_checkable
class Job(Protocol):
    """A started step."""

    def poll(self) -> int | None:
        """Exit status, or None while it runs."""
        ...

    def stop(self) -> None:
        """Ask it to save and stop; returns when it has."""
        ...

    def leave(self) -> None:
        """The experiment ends without it: let it run on where it can, otherwise `stop`."""
        ...


@runtime_checkable
class Executor(Protocol):
    """Starts steps; `free` says how many more may run now."""

    @property
    def free(self) -> int: ...

    def start(self, step: Step, alone: bool) -> Job:
        """Run a step; `alone`: nothing else can run before it has ended."""
        ...


def command(step: Step) -> list[str]:
    """The step as a command line for the repository's root."""
    return [sys.executable, f"stages/{step.stage}.py", *step.words]


class Slot(NamedTuple):
    """What one local job has to itself."""

    cores: frozenset[int]
    gpus: tuple[str, ...]


def gpus() -> list[str]:
    """Names, for CUDA_VISIBLE_DEVICES, of the GPUs that this process may use."""
    count, given = torch.cuda.device_count(), os.environ.get("CUDA_VISIBLE_DEVICES")
    return given.split(",")[:count] if given else [str(index) for index in range(count)]


def slots(jobs: int, cores: Sequence[int], gpus: Sequence[str]) -> list[Slot]:
    """Divide the machine among `jobs` side by side: the cores evenly, the GPUs one each in turn.

    Raises:
        UserError: more jobs than cores, which would make every one of them stall.
    """
    if not 1 <= jobs <= len(cores):
        raise UserError(f"--jobs {jobs} on {len(cores)} cores; give 1 to {len(cores)}")
    return [Slot(frozenset(cores[i::jobs]), (gpus[i % len(gpus)],) if gpus else ()) for i in range(jobs)]


class Local:
    """Processes of this machine, each on cores of its own; a step that runs alone has all of them."""

    def __init__(self, jobs: int) -> None:
        self._free = slots(jobs, cores(), gpus())

    @property
    def free(self) -> int:
        return len(self._free)

    def start(self, step: Step, alone: bool) -> Job:
        taken = self._free[:] if alone else self._free[-1:]
        del self._free[-len(taken) :]
        return _Process(step, taken, self._free)


class _Process:
    def __init__(self, step: Step, taken: list[Slot], free: list[Slot]) -> None:
        self._taken, self._free = taken, free
        cores = frozenset[int]().union(*(slot.cores for slot in taken))
        gpus = ",".join(gpu for slot in taken[:1] for gpu in slot.gpus)
        threads = {"OMP_NUM_THREADS": str(len(cores))}
        step.log.parent.mkdir(parents=True, exist_ok=True)
        with step.log.open("ab") as log:
            self._process = subprocess.Popen(
                command(step), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
                preexec_fn=_end_with_parent if sys.platform == "linux" else None,
                env=os.environ | threads | ({"CUDA_VISIBLE_DEVICES": gpus} if gpus else {}),
            )  # fmt: skip
        with contextlib.suppress(ProcessLookupError):  # it ended at once
            os.sched_setaffinity(self._process.pid, cores)

    def poll(self) -> int | None:
        status = self._process.poll()
        if status is not None:
            self._free += self._taken
            self._taken = []
        return status

    def stop(self) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGINT)
            try:
                self._process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()

    def leave(self) -> None:
        self.stop()


def _end_with_parent() -> None:
    """In the child: be interrupted when the parent dies, even when it is killed."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGINT)
