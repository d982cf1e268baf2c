"""Run the unfinished steps of a plan, each as soon as those it needs are finished."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, NamedTuple

from vidpara.exclusive import exclusive
from vidpara.experiment.executors import Executor, Job, Left
from vidpara.experiment.plan import Plan, Step

INTERVAL = 0.5
TAIL = 4000
State = Literal["waiting", "running", "finished", "left out", "failed", "blocked"]
"""`left out`: nothing that is to run needs it. `blocked`: a step that this one needs has failed."""
THERE = ("finished", "left out")


class Standing(NamedTuple):
    """How far a step is; `note` is its progress, or the last line of what it said when it failed."""

    state: State
    note: str = ""


def run(
    plan: Plan,
    executor: Executor,
    show: Callable[[Mapping[str, Standing]], None],
    chosen: Collection[str] | None = None,
    given: Collection[str] = (),
) -> dict[str, Standing]:
    """Run the `chosen` steps, or all, that are not finished and return how each step ended. A failed step does not stop
    the others.

    `show` gets the standings again and again; steps named in `given` count as finished. On Ctrl-C the running steps
    save and stop first; where the experiment is `Left`, or ends by an error, those that can do so run on.
    """
    standing = standings(plan, chosen, given)
    jobs: dict[str, Job] = {}
    began: dict[str, float] = {}
    stop = False
    try:
        while jobs or any(value.state == "waiting" for value in standing.values()):
            for name, status in [(name, job.poll()) for name, job in jobs.items()]:
                standing[name] = _now(plan.steps[name], status)
                if status is not None:
                    del jobs[name]
                    add_seconds(plan.steps[name], time.monotonic() - began[name])
            for name in _blocked(plan, standing):
                standing[name] = Standing("blocked")
            names, alone = _next(plan, standing, executor.free)
            for name in names:
                began[name] = time.monotonic()
                jobs[name] = executor.start(plan.steps[name], alone)
                standing[name] = Standing("running")
            show(standing)
            if jobs:
                time.sleep(INTERVAL)
    except KeyboardInterrupt as end:
        stop = not isinstance(end, Left)
        raise
    finally:
        with ThreadPoolExecutor() as side_by_side:  # each may take a while to save
            list(side_by_side.map(lambda job: job.stop() if stop else job.leave(), jobs.values()))
        for name in jobs:
            add_seconds(plan.steps[name], time.monotonic() - began[name])
    return standing


def standings(
    plan: Plan, chosen: Collection[str] | None = None, given: Collection[str] = ()
) -> dict[str, Standing]:
    """How far each step is before anything runs."""
    found = {}
    for name, step in plan.steps.items():
        left = "waiting" if chosen is None or name in chosen else "left out"
        found[name] = Standing("finished" if name in given or step.product.exists() else left)
    return found


@contextlib.contextmanager
def alone(plan: Plan) -> Iterator[None]:
    """No other experiment uses these run folders meanwhile, neither the same one nor one that shares its steps.

    Raises:
        UserError: one does.
    """
    folder = plan.experiment.runs
    taken = f"an experiment already runs in {folder}; wait for it or stop it"
    with exclusive(folder / "experiment.lock", taken):
        yield


def _now(step: Step, status: int | None) -> Standing:
    if status is None:
        return Standing("running", progress(step))
    return (
        Standing("finished") if status == 0 and step.product.exists() else Standing("failed", last_line(step))
    )


def _blocked(plan: Plan, standing: Mapping[str, Standing]) -> list[str]:
    return [
        name
        for name, step in plan.steps.items()
        if standing[name].state == "waiting"
        and any(standing[need].state in ("failed", "blocked") for need in step.needs)
    ]


def _next(plan: Plan, standing: Mapping[str, Standing], free: int) -> tuple[list[str], bool]:
    """Steps to start now, evaluations first, and whether it is one that nothing runs beside."""
    running = [plan.steps[name] for name, value in standing.items() if value.state == "running"]
    ready = [
        step
        for name, step in plan.steps.items()
        if standing[name].state == "waiting" and all(standing[need].state in THERE for need in step.needs)
    ]
    if any(step.whole for step in running):
        return [], False
    if whole := [step.name for step in ready if step.whole]:
        return ([] if running else whole[:1]), True
    # A finished cell is worth more than a begun one.
    ready.sort(key=lambda step: step.stage != "evaluate_policy")
    alone = len(ready) == 1 and not running
    return [step.name for step in ready[:free]], alone


def seconds(step: Step) -> float:
    """How long a step has run in all, interruptions apart; on a cluster from when it was submitted."""
    file = step.log.with_suffix(".seconds")
    return float(file.read_text()) if file.is_file() else 0.0


def add_seconds(step: Step, spent: float) -> None:
    """Remember that a step has run for `spent` seconds more."""
    step.log.with_suffix(".seconds").write_text(f"{seconds(step) + spent:.1f}\n")


def progress(step: Step) -> str:
    """The newest state of the step's own progress bar."""
    bars = re.findall(r"(\d+%)\|[^|]*\| *(\d+/\d+) \[([^\]]*)", _tail(step))
    return (
        f"{bars[-1][0]} {bars[-1][1]} {bars[-1][2].partition('<')[2].partition(',')[0]} left" if bars else ""
    )


def last_line(step: Step) -> str:
    """What a failed step said last."""
    lines = [line.strip() for line in re.split(r"[\r\n]+", _tail(step)) if line.strip()]
    return f"{lines[-1] if lines else 'no output'} ({step.log})"


def _tail(step: Step) -> str:
    if not step.log.is_file():
        return ""
    with step.log.open("rb") as file:
        file.seek(max(0, step.log.stat().st_size - TAIL))
        return file.read().decode(errors="replace")
