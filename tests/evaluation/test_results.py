from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import pytest
import torch

from tests.evaluation.fakes import Scripted, start
from vidpara.cli import UserError
from vidpara.evaluation import results
from vidpara.evaluation.results import EpisodeRecord, Results
from vidpara.evaluation.statistics import mcnemar, wilson

WHOLE = json.dumps({key: [] for key in results.KEYS})
"""A file with every key, and nothing under any."""


def found(outcomes: str, cell: str = "two_stage", first_seed: int = 0) -> Results:
    """Results with one episode a letter: P, G or M."""
    names = {"P": "PLACE", "G": "GRASP", "M": "MISS"}
    episodes = tuple(
        EpisodeRecord(start(first_seed + i, (0.1, 0.01 * i)), names[letter], 100 + i, 12, 1.5)  # pyright: ignore
        for i, letter in enumerate(outcomes)
    )
    return Results(
        cell, episodes, "python stages/evaluate_policy.py", {"seed": 1}, {"torch": "2"}, 1, {"suite": "s"}
    )


def test_a_results_file_reads_back_equal(tmp_path: Path):
    expected = found("PPGM")
    results.write(tmp_path / "a.json", expected)
    assert results.read(tmp_path / "a.json") == expected


def test_a_results_file_has_the_agreed_keys_and_they_add_up(tmp_path: Path):
    results.write(tmp_path / "new" / "a.json", found("PPGMM"))
    content = json.loads((tmp_path / "new" / "a.json").read_text())
    assert set(results.KEYS) <= content.keys()
    assert {"seconds", "seconds_per_episode", "mean_looks"} <= content.keys()
    assert (content["place"], content["grasp"], content["miss"], content["episodes"]) == (2, 1, 2, 5)
    assert content["wilson95"] == pytest.approx(wilson(2, 5), abs=1e-4)
    assert {"start", "outcome", "steps"} <= content["outcomes"][0].keys()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"cell": "a", "outc', "not valid JSON"),
        ("[]", "not a results file"),
        ('{"cell": "a"}', "no episodes"),
        (WHOLE.replace('"outcomes": []', '"outcomes": [3]'), "is not a results file: "),
        (WHOLE.replace('"config"', '"made": [{"by": 1}], "config"'), "is not a results file: TypeError"),
        (WHOLE, "holds no episodes"),
    ],
)
def test_a_file_that_holds_no_results_is_refused(tmp_path: Path, text: str, message: str):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(UserError, match=message):
        results.read(tmp_path / "a.json")


def test_a_missing_file_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match="does not exist"):
        results.read(tmp_path / "a.json")


def test_compare_pairs_episodes_by_start():
    paired = results.compare(found("PPPGM"), found("PMMPM", cell="joint"))
    assert paired == (1, 2, 1, 1, mcnemar(2, 1))


@pytest.mark.parametrize("other", [found("PPGM"), found("PPG", first_seed=7)])
def test_compare_refuses_other_starts(other: Results):
    with pytest.raises(UserError, match="same starts"):
        results.compare(found("PPG"), other)


@pytest.mark.parametrize("name", ["suite", "task", "max_steps"])
def test_compare_refuses_another_task(name: str):
    """LIBERO's own starts, and a clean scene's, are numbered alike in every task."""
    one = found("PPG")
    other = one._replace(protocol={**one.protocol, name: 9})
    assert results.paired(one, one) and not results.paired(one, other)
    with pytest.raises(UserError, match=f"{name} is .* and 9 for"):
        results.compare(one, other)


def test_what_two_evaluations_were_judged_by_is_named_where_it_differs():
    config = {"policy": "a", "videos": 3, "camera_error": 0.0, "controller": {"stall": 0.01, "gain": 1.4}}
    other = {"policy": "b", "videos": 0, "controller": {"stall": 0.0, "gain": 1.4}, "later": 1}
    a, b = found("PM", "a")._replace(config=config), found("PM", "b")._replace(config=other)
    assert results.judged_otherwise(a, b) == ["controller.stall: 0.01 for 'a', 0.0 for 'b'"]
    assert results.judged_otherwise(a, a) == []


def test_no_path_of_this_machine_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    words = [
        "configs/a.yaml",
        "--policy",
        str(tmp_path / "runs/a"),
        "--output=/elsewhere/b/c.json",
        "--seed",
        "3",
    ]
    line = results.command_line("evaluate_policy", words)
    assert str(tmp_path) not in line and "/elsewhere" not in line
    assert "--policy runs/a" in line and "--output=.../c.json" in line and "--seed 3" in line
    assert results.portable({"a": {"policy": str(tmp_path / "runs/a"), "n": 1}}) == {
        "a": {"policy": "runs/a", "n": 1}
    }


def test_the_fingerprint_follows_the_weights():
    policy, same = Scripted(), Scripted()
    assert results.fingerprint(policy) == results.fingerprint(same)
    same.offset.data[1] += 1e-6
    assert results.fingerprint(policy) != results.fingerprint(same)
    assert results.fingerprint(policy.to(torch.bfloat16)) != results.fingerprint(Scripted())


def test_the_stage_prints_the_paired_table_and_refuses_other_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    for name, outcomes in (("a", "PPPPGM"), ("b", "PMMMMM"), ("c", "PM")):
        results.write(tmp_path / f"{name}.json", found(outcomes, cell=name))
    monkeypatch.setattr(sys, "argv", ["compare", str(tmp_path / "a.json"), str(tmp_path / "b.json")])
    runpy.run_path("stages/compare_results.py", run_name="__main__")
    shown = capsys.readouterr().out
    assert "p = 0.25 (3 : 0 starts differ)" in shown and "a: PLACE 4/6" in shown
    monkeypatch.setattr(sys, "argv", ["compare", str(tmp_path / "a.json"), str(tmp_path / "c.json")])
    with pytest.raises(SystemExit, match="2"):
        runpy.run_path("stages/compare_results.py", run_name="__main__")
    refused = capsys.readouterr().err
    assert refused.startswith("error: ") and len(refused.splitlines()) == 1
