"""Steps run once, after those they need. Small scripts stand for the stages: what those compute is not the point."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from vidpara.cli import UserError
from vidpara.experiment import execute, executors
from vidpara.experiment.declare import Experiment, Recipe
from vidpara.experiment.execute import Standing
from vidpara.experiment.executors import Local, gpus, slots
from vidpara.experiment.plan import Cell, Plan, Step
from vidpara.experiment.table import LiveTable


def script(name: str, body: str, folder: Path, needs: tuple[str, ...] = (), whole: bool = False) -> Step:
    """A step that writes its product after `body` has run."""
    product = folder / name / "product"
    product.parent.mkdir(exist_ok=True)
    program = f"import pathlib, sys, time; {body}; pathlib.Path({str(product)!r}).write_text('done')"
    return Step(name, "script", (program,), name, needs, product, product.with_suffix(".log"), whole)


@pytest.fixture(autouse=True)
def scripts_instead_of_stages(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(executors, "command", lambda step: [sys.executable, "-c", *step.words])
    monkeypatch.setattr(execute, "INTERVAL", 0.02)


def run(*steps: Step, jobs: int = 1) -> dict[str, Standing]:
    experiment = Experiment("scripts", {}, Recipe())
    cells = (Cell("all", "all", {}, "", tuple(step.name for step in steps), Path("result.json")),)
    shown: list[Mapping[str, Standing]] = []
    return execute.run(
        Plan(experiment, cells, {step.name: step for step in steps}), Local(jobs), shown.append
    )


def test_a_step_runs_after_those_it_needs(tmp_path: Path):
    first = script("first", "time.sleep(0.2)", tmp_path)
    second = script("second", f"assert pathlib.Path({str(first.product)!r}).exists()", tmp_path, ("first",))
    assert {name: found.state for name, found in run(first, second, jobs=1).items()} == {
        "first": "finished", "second": "finished",
    }  # fmt: skip


def test_a_finished_step_is_not_run_again(tmp_path: Path):
    step = script("once", "0", tmp_path)
    run(step)
    again = script("once", "sys.exit(3)", tmp_path)
    assert run(again)["once"].state == "finished"


def test_what_is_not_chosen_is_left_out_and_holds_nothing_up(tmp_path: Path):
    first = script("first", "sys.exit(3)", tmp_path)
    second = script("second", "0", tmp_path, ("first",))
    given = script("given", "sys.exit(3)", tmp_path)
    steps = {step.name: step for step in (first, second, given)}
    plan = Plan(Experiment("scripts", {}, Recipe()), (), steps)
    found = execute.run(plan, Local(1), lambda _: None, ["second"], ["given"])
    assert {name: now.state for name, now in found.items()} == {
        "first": "left out", "second": "finished", "given": "finished",
    }  # fmt: skip


def test_a_failure_blocks_what_needs_it_and_nothing_else(tmp_path: Path):
    bad = script("bad", "sys.exit('error: the disk is full')", tmp_path)
    blocked = script("blocked", "0", tmp_path, ("bad",))
    apart = script("apart", "0", tmp_path)
    found = run(bad, blocked, apart)
    assert [found[name].state for name in ("bad", "blocked", "apart")] == ["failed", "blocked", "finished"]
    assert found["bad"].note.startswith("error: the disk is full")


def test_a_step_that_ends_well_without_its_product_has_failed(tmp_path: Path):
    assert run(script("empty", "sys.exit(0)", tmp_path))["empty"].state == "failed"


def test_an_interrupt_stops_the_running_steps_and_waits_for_them(tmp_path: Path):
    saved = tmp_path / "saved"
    body = (
        "signal = __import__('signal'); save = lambda *_: (pathlib.Path("
        f"{str(saved)!r}).write_text('x'), sys.exit(130)); signal.signal(signal.SIGINT, save); "
        f"pathlib.Path({str(tmp_path / 'ready')!r}).write_text('x'); time.sleep(60)"
    )

    def interrupt(_: Mapping[str, Standing]) -> None:
        if (tmp_path / "ready").exists():
            raise KeyboardInterrupt

    step = script("long", body, tmp_path)
    plan = Plan(Experiment("scripts", {}, Recipe()), (), {"long": step})
    with pytest.raises(KeyboardInterrupt):
        execute.run(plan, Local(1), interrupt)
    assert saved.exists()
    assert not step.product.exists()


@pytest.mark.skipif(sys.platform != "linux", reason="children learn of a killed parent on Linux only")
def test_a_step_is_interrupted_when_the_experiment_is_killed(tmp_path: Path):
    said = tmp_path / "said"
    body = (
        "import signal, sys, time; say = lambda word: open("
        f"{str(said)!r}, 'a').write(word); signal.signal(signal.SIGINT, lambda *_: (say('stopped'), sys.exit(130))); "
        "say('ready '); time.sleep(60)"
    )
    program = (
        "import sys; from pathlib import Path; from vidpara.experiment import executors; "
        "from vidpara.experiment.plan import Step; import time; "
        "executors.command = lambda step: [sys.executable, '-c', *step.words]; "
        f"step = Step('long', 'script', ({body!r},), '', (), Path('p'), Path({str(tmp_path / 'log')!r})); "
        "executors.Local(1).start(step, True); time.sleep(60)"
    )
    experiment = subprocess.Popen([sys.executable, "-c", program])
    wait_for(said, "ready ")
    experiment.kill()
    wait_for(said, "ready stopped")


def wait_for(file: Path, content: str) -> None:
    deadline = time.monotonic() + 60
    while not (file.exists() and file.read_text() == content):
        assert time.monotonic() < deadline, f"{file} does not hold '{content}'"
        time.sleep(0.05)


def test_two_experiments_do_not_use_the_same_runs_at_once(tmp_path: Path):
    plan, sharing = (Plan(Experiment(name, {}, Recipe(), runs=tmp_path / "runs"), (), {}) for name in "ab")
    with (
        execute.alone(plan),
        pytest.raises(UserError, match="an experiment already runs in"),
        execute.alone(sharing),
    ):
        pass
    with execute.alone(plan):
        pass


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
def test_a_step_that_uses_all_cores_has_them_and_nothing_runs_beside_it(tmp_path: Path):
    cores = 'len(__import__("os").sched_getaffinity(0))'
    note = f"time.sleep(0.3); open({str(tmp_path / 'seen')!r}, 'a').write(f'{{sys.argv[0]}} {{{cores}}} ')"
    narrow = script("narrow", note, tmp_path)
    wide = script("wide", note, tmp_path, whole=True)
    other = script("other", note, tmp_path)
    run(narrow, wide, other, jobs=2)
    first, *rest = (tmp_path / "seen").read_text().replace("-c", "").split()
    allowed = len(os.sched_getaffinity(0))
    assert int(first) == allowed
    assert all(int(count) < allowed for count in rest)


def test_the_time_of_a_step_adds_up(tmp_path: Path):
    step = script("once", "time.sleep(0.2)", tmp_path)
    run(step)
    assert 0.1 < execute.seconds(step) < 30
    execute.add_seconds(step, 100)
    assert execute.seconds(step) > 100


def test_the_newest_progress_is_read_from_the_log(tmp_path: Path):
    step = script("bar", "0", tmp_path)
    step.log.write_text(
        " 4%|▍  | 100/2400 [01:00<40:00, 1step/s]\r 8%|▊  | 200/2400 [02:00<37:10, 1.01step/s]"
    )
    assert execute.progress(step) == "8% 200/2400 37:10 left"


def test_cores_and_gpus_are_divided_among_the_jobs():
    assert [set(slot.cores) for slot in slots(2, [0, 1, 2, 3], [])] == [{0, 2}, {1, 3}]
    assert [slot.gpus for slot in slots(3, [0, 1, 2], ["2", "3"])] == [("2",), ("3",), ("2",)]
    with pytest.raises(UserError, match="--jobs 3 on 2 cores"):
        slots(3, [0, 1], [])


def test_only_the_gpus_that_the_experiment_was_given_are_used(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert gpus() == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,GPU-8932f937")
    assert gpus() == ["5", "GPU-8932f937"]


def test_what_a_failed_step_said_is_text_and_no_markup(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    step = script("bad", "pass", tmp_path)
    plan = Plan(Experiment("scripts", {}, Recipe()), (), {step.name: step})
    with LiveTable(plan) as live:
        live.show({step.name: Standing("failed", "KeyError: '[/data/x.hdf5]'")})
    assert "bad: failed: KeyError: '[/data/x.hdf5]'" in capsys.readouterr().err
