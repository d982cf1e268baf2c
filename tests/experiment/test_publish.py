"""What an experiment leaves in `results/`."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from vidpara.evaluation import recording, results
from vidpara.evaluation.results import EpisodeRecord, Results
from vidpara.evaluation.video import read_mp4, write_mp4
from vidpara.experiment import publish, tables, trained
from vidpara.experiment.declare import CellRecipe, Experiment, Recipe
from vidpara.experiment.plan import Cell, Plan, Step
from vidpara.types import EpisodeStart
from vidpara.versions import STARTS


def result(cell: str, placed: str) -> Results:
    """`placed` has one letter an episode: P for PLACE, m for MISS."""
    episodes = tuple(
        EpisodeRecord(EpisodeStart(i, (), (0.0, 0.0)), "PLACE" if letter == "P" else "MISS", 9, 3, 1.0)
        for i, letter in enumerate(placed)
    )
    return Results(cell, episodes, "python", {}, {}, 0, {"success": "the goal predicate holds"})


def step(name: str, stage: str, product: Path, key: str = "key") -> Step:
    return Step(name, stage, (), key, (), product, product.with_suffix(".log"))


@pytest.fixture
def finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """Two cells with seeds 0 and 1, of which `joint-seed1` is not finished."""
    monkeypatch.chdir(tmp_path)
    cells, steps = [], {}
    for name, placed in {
        "two-seed0": "PPPPPPPPm",
        "joint-seed0": "PmmmmmmmP",
        "two-seed1": "PPPPPPPPP",
    }.items():
        policy = step(f"{name} train", "train_policy", Path("runs") / name / "workspace.json")
        judged = step(f"{name} evaluate", "evaluate_policy", Path("runs") / name / "result.json")
        policy.product.parent.mkdir(parents=True)
        (policy.product.parent / "config.yaml").write_text("trainer: {steps: 9}\n")
        (policy.product.parent / "command.txt").write_text("python stages/train_policy.py\n")
        (policy.product.parent / "metrics.jsonl").write_text(
            '{"step": 1, "train_step/loss": 3.0}\n{"step": 2, "val/loss": 2.0, "train_step/lr": 1.0}\n'
        )
        (policy.product.parent / STARTS).write_text('{"step": 0, "precision": "bf16"}\n')
        results.write(judged.product, result(name, placed))
        steps |= {policy.name: policy, judged.name: judged}
        file = Path("results/study") / f"{name}.json"
        swept = {"trainer.seed": int(name[-1])}
        cells.append(Cell(name, name.partition("-")[0], swept, "", (policy.name, judged.name), file))
    missing = step("joint-seed1 evaluate", "evaluate_policy", Path("runs/absent/result.json"))
    cells.append(
        Cell("joint-seed1", "joint", {}, "", (missing.name,), Path("results/study/joint-seed1.json"))
    )
    recipes = {"two": CellRecipe(), "joint": CellRecipe()}
    experiment = Experiment("study", recipes, Recipe(), results=Path("results/study"))
    pairs = (("two-seed0", "joint-seed0"), ("two-seed1", "joint-seed1"))
    return Plan(experiment, tuple(cells), steps | {missing.name: missing}, pairs)


def filmed(finished: Plan) -> Plan:
    """The plan with a named test, and recordings of the first pair."""
    for name in ("two-seed0", "joint-seed0"):
        for episode in range(publish.PAIRED):
            file = recording.path(finished.steps[f"{name} evaluate"].product, episode)
            file.parent.mkdir(parents=True, exist_ok=True)
            write_mp4(file, [np.zeros((16, 16, 3), np.uint8)] * 2, 10, 24)
    return finished._replace(cells=tuple(cell._replace(test="right") for cell in finished.cells))


def test_finished_cells_are_published_with_their_training(finished: Plan):
    assert list(publish.publish(finished)) == ["two-seed0", "joint-seed0", "two-seed1"]
    assert results.read(Path("results/study/two-seed0.json")).count("PLACE") == 8
    training = json.loads(Path("results/study/two-seed0.training.json").read_text())["train_policy"]
    assert training["metrics"] == [{"step": 2, "val/loss": 2.0}]
    assert training["starts"] == [{"step": 0, "precision": "bf16"}]
    assert not Path("results/study/joint-seed1.json").exists()


def test_the_film_of_the_first_episodes_is_published(finished: Plan):
    product = finished.steps["two-seed0 evaluate"].product
    recording.grid_path(product).parent.mkdir(parents=True)
    write_mp4(recording.grid_path(product), [np.zeros((16, 16, 3), np.uint8)] * 2, 10, 24)
    shutil.copy(recording.grid_path(product), recording.failures_path(product))
    publish.publish(finished)
    for ending in (".mp4", ".failures.mp4"):
        published = Path("results/study/two-seed0").with_suffix(ending)
        assert published.read_bytes() == recording.grid_path(product).read_bytes()
    assert not Path("results/study/joint-seed0.mp4").exists()
    recording.failures_path(product).unlink()  # the cell's next policy fails nowhere
    Path("results/study/cells.json").write_text("{}")
    publish.publish(finished)
    assert Path("results/study/two-seed0.mp4").exists()
    assert not Path("results/study/two-seed0.failures.mp4").exists()


def test_a_pair_in_a_named_test_is_filmed_one_above_the_other_and_anew_when_one_was(finished: Plan):
    tested = filmed(finished)
    publish.publish(tested)
    film = Path("results/study/two-seed0-vs-joint-seed0.mp4")
    (first, *_), cell = read_mp4(film), recording.CELL + 2 * recording.BORDER
    assert first.shape[1] == publish.PAIRED * cell and first.shape[0] > 2 * recording.CELL
    assert not Path("results/study/two-seed1-vs-joint-seed1.mp4").exists()
    film.write_bytes(b"")
    publish.publish(tested)
    assert film.read_bytes() == b""  # both policies' recordings are older
    os.utime(recording.path(finished.steps["joint-seed0 evaluate"].product, 0), (2**31, 2**31))
    publish.publish(tested)
    assert read_mp4(film)


def test_the_table_names_each_cell_and_the_pairs_are_tested_seed_by_seed(finished: Plan):
    publish.publish(finished)
    lines = Path("results/study/table.md").read_text().splitlines()
    assert "| two-seed0 | 8/9 = 89 % (57–98) | 0 | 1 |" in lines
    assert [line for line in lines if line.startswith("| two-seed") and "| joint-" in line] == [
        "| two-seed0 | joint-seed0 | 7 | 1 | 0.07 |"
    ]


def test_the_table_has_the_plans_error_where_held_out_demos_were_asked_for_and_no_time(finished: Plan):
    found = {"a": result("a", "PM"), "b": result("b", "PP")}
    assert next(iter(tables.cells(found))).endswith("| GRASP | MISS |")
    found["b"] = found["b"]._replace(measured={"val/position_error": 0.0123, "seconds_per_look": 0.0456})
    head, _, a, b = tables.cells(found)
    assert head.endswith("| MISS | plan error, cm |")
    assert a.endswith("| 0 | 1 |  |") and b.endswith("| 0 | 0 | 1.2 |")


def test_a_pair_with_other_starts_is_named_and_does_not_stop_the_table(finished: Plan):
    results.write(finished.steps["joint-seed0 evaluate"].product, result("joint-seed0", "PPP"))
    publish.publish(finished)
    lines = Path("results/study/table.md").read_text().splitlines()
    assert [line for line in lines if "has 9 episodes and 'joint-seed0' has 3" in line]


def test_only_finished_steps_have_a_time(finished: Plan):
    for name in ("two-seed0 evaluate", "joint-seed1 evaluate"):
        finished.steps[name].log.parent.mkdir(parents=True, exist_ok=True)
        finished.steps[name].log.with_suffix(".seconds").write_text("7.0")
    Path("results/study").mkdir(parents=True)
    timings = Path("results/study/timings.json")
    timings.write_text('{"a step of an earlier recipe": 3.0, "joint-seed0 evaluate": 5.0}')
    publish.publish(finished)
    assert json.loads(timings.read_text()) == {"joint-seed0 evaluate": 5.0, "two-seed0 evaluate": 7.0}


def test_what_another_machine_published_needs_no_page(finished: Plan):
    publish.publish(finished)
    publish.page_path(finished).unlink()
    shutil.rmtree("runs")
    collected = step("rollouts", "collect_rollouts", Path("data.hdf5"))
    collected.product.touch()
    publish.publish(finished._replace(steps={**finished.steps, "rollouts": collected}))
    assert not publish.page_path(finished).exists()


def test_the_page_shows_what_is_finished(finished: Plan):
    publish.publish(finished)
    page = publish.page_path(finished).read_text()
    assert "two-seed0" in page and "joint-seed0" in page and "two-seed1" in page
    assert "joint-seed1" not in page


def test_published_results_outlive_their_runs_until_the_plan_changes(finished: Plan):
    found = publish.publish(finished)
    shutil.rmtree("runs")
    assert publish.published(finished) == found
    assert publish.publish(finished) == found
    assert (Path("results/study") / "success.png").stat().st_size > 1000
    changed = {
        name: each._replace(key="other") for name, each in finished.steps.items() if "two-seed0" in name
    }
    kept = publish.published(finished._replace(steps={**finished.steps, **changed}))
    assert list(kept) == ["joint-seed0", "two-seed1"]


def test_a_stage_one_whose_run_folder_is_elsewhere_is_not_known(finished: Plan):
    """As after `--train-only` on another machine, from which the policy's run folder alone was carried."""
    video = step("video", "train_video", Path("runs/elsewhere/autoencoder"))
    config = Path("runs/two-seed0/config.yaml")
    config.write_text(f"{config.read_text()}video_run: {video.folder}\n")
    cells = (finished.cells[0]._replace(steps=(video.name, *finished.cells[0].steps)), *finished.cells[1:])
    publish.publish(finished._replace(cells=cells, steps={**finished.steps, video.name: video}))
    trained = json.loads(Path("results/study/two-seed0.training.json").read_text())
    assert list(trained) == ["train_video", "train_policy"]
    assert trained["train_video"] == {"config": "", "command": "", "starts": [], "metrics": []}


def test_a_line_that_a_kill_left_unfinished_does_not_stop_publishing(finished: Plan):
    with Path("runs/two-seed0/metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "val/lo')
    publish.publish(finished)
    trained = json.loads(Path("results/study/two-seed0.training.json").read_text())
    assert trained["train_policy"]["metrics"] == [{"step": 2, "val/loss": 2.0}]


def test_a_given_stage_one_stands_before_the_policy(finished: Plan):
    given = Path("checkpoints/video")
    given.mkdir(parents=True)
    (given / "config.yaml").write_text("trainer: {steps: 2000}\n")
    config = Path("runs/two-seed0/config.yaml")
    config.write_text(f"{config.read_text()}video_run: {given}\n")
    publish.publish(finished)
    trained = json.loads(Path("results/study/two-seed0.training.json").read_text())
    assert list(trained) == ["train_video", "train_policy"]
    assert (
        trained["train_video"]["config"] == "trainer: {steps: 2000}\n"
        and not trained["train_video"]["metrics"]
    )


def test_places_that_were_not_known_are_added_and_nothing_else_changes(
    finished: Plan, monkeypatch: pytest.MonkeyPatch
):
    publish.publish(finished)
    file = Path("results/study/two-seed0.training.json")
    before = json.loads(file.read_text())
    assert before["train_policy"]["places"] == []
    before["train_policy"]["metrics"] = [{"step": 1, "val/loss": 9.0}]  # as another machine published it
    file.write_text(json.dumps(before))
    monkeypatch.setattr(trained, "places", lambda config: [[0.1, -0.2]])
    publish.publish(finished)
    before["train_policy"]["places"] = [[0.1, -0.2]]
    assert json.loads(file.read_text()) == before


def test_success_by_tilt_is_a_table_where_there_are_several():
    def seen(tilts: list[float], placed: str) -> Results:
        found = result("para", placed)
        starts = [e.start._replace(view=(90.0, tilt)) for e, tilt in zip(found.episodes, tilts, strict=True)]
        return found._replace(
            episodes=tuple(e._replace(start=s) for e, s in zip(found.episodes, starts, strict=True))
        )

    found = {
        "para": seen([0, 0, 25], "PmP"),
        "default": seen([0, 0, 0], "PPP"),
        "act": seen([0, 12.5, 12.5], "PPm"),
    }
    assert list(tables.by_tilt(found)) == [
        "| PLACE by tilt of the camera | 0° | 12.5° | 25° |",
        "|---|---|---|---|",
        "| para | 1/2 |  | 1/1 |",
        "| act | 1/1 | 1/2 |  |",
    ]


def test_what_belongs_to_an_earlier_policy_goes(finished: Plan):
    """A training beside a result that has none, a film of a pair, and a figure without numbers."""
    tested = filmed(finished)
    publish.publish(tested)
    folder, judged = Path("results/study"), finished.steps["joint-seed0 evaluate"]
    film, training = folder / "two-seed0-vs-joint-seed0.mp4", folder / "joint-seed0.training.json"
    assert film.is_file() and training.is_file()
    (folder / "by_demos.png").touch()
    (folder / "photo.png").touch()
    other = judged._replace(key="other", product=Path("runs/other/result.json"))
    results.write(other.product, result("joint-seed0", "PPPPPPPPP"))
    given = next(cell for cell in tested.cells if cell.name == "joint-seed0")._replace(steps=(other.name,))
    cells = tuple(given if cell.name == given.name else cell for cell in tested.cells)
    publish.publish(tested._replace(cells=cells, steps={**tested.steps, other.name: other}))
    assert not film.exists() and not training.exists() and not (folder / "by_demos.png").exists()
    assert (folder / "photo.png").exists() and (folder / "success.png").exists()


def test_the_page_has_also_what_another_machine_published(finished: Plan):
    publish.publish(finished)
    shutil.rmtree("runs/two-seed0")
    publish.publish(finished)
    page = publish.page_path(finished).read_text()
    assert "two-seed0" in page and "not on the same starts" not in page
