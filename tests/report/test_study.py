"""Figures of a study say what its results say."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vidpara.evaluation.results import LOOK, EpisodeRecord, Results
from vidpara.evaluation.statistics import wilson
from vidpara.report import figures, settings, study
from vidpara.report.learning import learning
from vidpara.report.published import ERROR, Cell, read_machine, read_trainings
from vidpara.report.runs import Curve
from vidpara.types import EpisodeStart


def cell(recipe: str, demos: int, place: int, seed: int = 0, error: float = 0.02) -> Cell:
    """Ten episodes, `place` of them PLACE; stage one of 10 steps in a minute, then 20 in two minutes."""
    episodes = tuple(
        EpisodeRecord(EpisodeStart(i, (), (0.0, 0.0)), "PLACE" if i < place else "MISS", 9, 3, 1.0)
        for i in range(10)
    )
    first = {"val/loss": Curve((10,), (60.0,), (1.0,))}
    second = {ERROR: Curve((10, 20), (60.0, 120.0), (2 * error, error))}
    trainings = [first, second] if recipe == "two_stage" else [second]
    name = f"{recipe}-demos{demos}-seed{seed}"
    found = Results(name, episodes, "", {}, {}, 0, {})
    return Cell(name, recipe, {"data.demos": demos, "trainer.seed": seed}, "", found, trainings)


def test_the_bars_are_the_shares_and_the_whisker_is_wilsons():
    axes = study.success([cell("two_stage", 4, 7)]).axes[0]
    assert [bar.get_width() for bar in axes.patches] == pytest.approx([70, 0, 30])
    (whisker,) = axes.lines
    assert np.asarray(whisker.get_xdata()) == pytest.approx([100 * bound for bound in wilson(7, 10)])


def test_each_seed_is_a_point_with_its_own_interval_and_the_line_goes_through_their_mean():
    cells = [cell("two_stage", 4, 2, 0, 0.03), cell("two_stage", 4, 4, 1, 0.05), cell("two_stage", 64, 9)]
    place, error = study.by_setting(cells, "data.demos").axes
    assert np.asarray(place.lines[0].get_ydata()) == pytest.approx([30, 90])
    assert np.asarray(error.lines[0].get_ydata()) == pytest.approx([4.0, 2.0])
    assert place.get_xscale() == "log"
    assert points(place)[:, 1] == pytest.approx([20, 40, 90])
    assert points(error)[:, 1] == pytest.approx([3, 5, 2])
    low, high = wilson(2, 10)
    assert bars(place)[0][:, 1] == pytest.approx([100 * low, 100 * high])


def points(axes: Axes) -> np.ndarray:
    """The x and y of each training."""
    return np.concatenate([container.lines[0].get_xydata() for container in axes.containers])


def bars(axes: Axes) -> list[np.ndarray]:
    return [container.lines[2][0].get_segments()[0] for container in axes.containers]


def test_points_of_one_value_stand_side_by_side_and_those_of_another_far_from_them():
    cells = [cell(str(n), demos, 5, seed) for n in range(9) for demos in (4, 16, 64) for seed in (0, 1)]
    place, error = study.by_setting(cells, "data.demos").axes
    for axes in (place, error):
        along = np.sort(np.log2(points(axes)[:, 0])).reshape(3, 18)
        assert along.mean(axis=1) == pytest.approx([2, 4, 6])
        assert np.diff(along).min() > 0.01 and np.ptp(along, axis=1).max() < 1.5


def test_no_line_bridges_a_value_that_was_not_run():
    cells = [cell("joint", demos, 5) for demos in (4, 64)] + [cell("two_stage", n, 6) for n in (4, 16, 64)]
    place, _ = study.by_setting(cells, "data.demos").axes
    joint, two_stage = (np.asarray(line.get_ydata()) for line in place.lines if line.get_linestyle() == "-")
    assert np.isnan(joint).tolist() == [False, True, False] and not np.isnan(two_stage).any()


def test_a_training_that_was_judged_on_fewer_starts_is_hollow_and_the_legend_says_so():
    whole, cut = cell("two_stage", 4, 2), cell("two_stage", 64, 3)
    cut = cut._replace(results=cut.results._replace(episodes=cut.results.episodes[:5]))
    figure = study.by_setting([whole, cut], "data.demos")
    filled = [container.lines[0].get_markerfacecolor() for container in figure.axes[0].containers]
    assert filled == [figures.PALETTE[0], "white"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["two_stage", settings.FEWER]
    assert len(study.by_setting([whole, cell("two_stage", 64, 3)], "data.demos").legends[0].get_texts()) == 1


def test_fifty_recipes_have_fifty_styles():
    names = [str(number) for number in range(50)]
    of_recipes = figures.styles(names)
    assert len({str(sorted(style.items())) for style in of_recipes.values()}) == 50
    assert figures.line_styles({name: name for name in names[7:]}, names) == {
        n: of_recipes[n] for n in names[7:]
    }
    two = figures.line_styles({"joint, left": "joint", "joint, right": "joint"}, ["two_stage", "joint"])
    assert {style["color"] for style in two.values()} == {figures.PALETTE[1]}
    assert (
        len({style["marker"] for style in two.values()}) == len({s["linestyle"] for s in two.values()}) == 2
    )


def test_what_differs_in_another_setting_is_a_line_of_its_own():
    steps = "evaluate.denoising_steps"
    cells = [
        cell("noise", n, n)._replace(swept={"policy.sigma": n, steps: k}) for n in (2, 8) for k in (1, 4)
    ]
    assert names(study.by_setting(cells, "policy.sigma")) == [
        "noise, denoising_steps 1",
        "noise, denoising_steps 4",
    ]
    alike = [one._replace(swept=one.swept | {"data.choose": "corners"}) for one in cells]
    assert names(study.by_setting(alike, "policy.sigma")) == names(study.by_setting(cells, "policy.sigma"))
    tested = [cell("noise", 4, 2)._replace(test="left"), cell("noise", 4, 8)._replace(test="right")]
    assert names(study.by_setting(tested, "data.demos")) == ["noise, left", "noise, right"]


def names(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_a_recipe_keeps_its_colour_whichever_others_have_finished():
    recipes = ["two_stage", "joint", "frozen"]
    whole = [cell(recipe, demos, 5) for recipe in recipes for demos in (4, 16)]
    few = [each for each in whole if each.recipe != "two_stage"]

    def colours(cells: list[Cell]) -> list[set[str]]:
        drawn = study.draw(cells, recipes=recipes)
        place = drawn["by_demos"].axes[0]
        curves = drawn["learning"].axes[0].get_lines()
        return [
            {str(line.get_color()) for line in place.lines if line.get_label() == "frozen"},
            {str(line.get_color()) for line in curves if str(line.get_label()).startswith("frozen")},
        ]

    assert colours(whole) == colours(few) == [{figures.PALETTE[2]}] * 2


@pytest.mark.parametrize("length", [1, 40, 90])
def test_a_legend_stays_within_its_figure(length: int):
    figure = study.by_setting([cell(str(n) * length, 4, n) for n in range(6)], "data.demos")
    figure.draw_without_rendering()
    (legend,) = figure.legends
    assert legend.get_window_extent().x1 <= figure.bbox.x1


def measured(denoising_steps: int, error: float, look: float) -> Cell:
    """A cell of which the evaluation measured the plan's error (metres) and the time of a look (seconds)."""
    found = cell("noise", 240, 9)
    results = found.results._replace(measured={ERROR: error, LOOK: look})
    return found._replace(swept={"evaluate.denoising_steps": denoising_steps}, results=results)


def test_cells_that_share_a_training_have_the_errors_that_their_evaluations_measured():
    cells = [measured(1, 0.03, 0.01), measured(4, 0.015, 0.04)]
    _, error = study.by_setting(cells, "evaluate.denoising_steps").axes
    assert np.asarray(error.lines[0].get_ydata()) == pytest.approx([3.0, 1.5])


def test_wall_times_of_evaluations_are_not_drawn_against_each_other():
    cells = [measured(1, 0.03, 0.01), measured(4, 0.015, 0.04)]
    assert set(study.draw(cells)) == {"success", "by_denoising_steps", "learning"}
    assert not study.is_figure("latency")


def test_seeds_are_no_axis():
    both = [cell("two_stage", 4, 2, seed) for seed in (0, 1)]
    assert set(study.draw(both)) == {"success", "learning"}


def test_the_same_setting_has_the_same_line_whatever_the_recipe_and_the_order():
    cells = [
        cell("two_stage", 64, 9),
        cell("two_stage", 4, 7),
        cell("joint", 4, 1),
        cell("joint", 64, 9, seed=1),
    ]
    figure = learning(cells)
    styles = {line.get_label(): line.get_linestyle() for line in figure.axes[0].lines}
    assert styles["two_stage-demos4-seed0"] == styles["joint-demos4-seed0"] == "--"
    assert styles["two_stage-demos64-seed0"] == styles["joint-demos64-seed1"] == "-"


def test_seeds_of_one_recipe_are_told_apart():
    cells = [cell("two_stage", 4, 7, seed) for seed in (0, 1, 2)] + [cell("joint", 4, 7, 1)]
    drawn = learning(cells).axes[0].lines
    assert len({(line.get_color(), line.get_linestyle(), line.get_fillstyle()) for line in drawn}) == 4
    assert drawn[1].get_fillstyle() == drawn[3].get_fillstyle() != drawn[0].get_fillstyle()


def test_one_point_is_no_learning_curve():
    whole, end = cell("two_stage", 4, 7), cell("joint", 4, 7)
    end = end._replace(trainings=[{ERROR: Curve((20,), (120.0,), (0.02,))}])
    steps, _ = study.draw([whole, end])["learning"].axes
    assert [line.get_label() for line in steps.lines] == ["two_stage-demos4-seed0"]
    assert "learning" not in study.draw([end])


def test_learning_counts_stage_ones_steps_and_time():
    steps, minutes = learning([cell("two_stage", 4, 7), cell("joint", 4, 7)]).axes
    assert [np.asarray(line.get_xdata()).tolist() for line in steps.lines] == [[20, 30], [10, 20]]
    assert [np.asarray(line.get_xdata()).tolist() for line in minutes.lines] == [[2, 3], [1, 2]]
    assert steps.get_ylim()[0] == 0


def test_times_of_two_machines_are_not_drawn_against_each_other():
    on = {"two_stage": "GPU, bf16", "joint": "CPU, float32", "frozen": "GPU, bf16"}
    cells = [cell(name, 4, 7)._replace(machine=machine) for name, machine in on.items()]
    steps, gpu, cpu = learning(cells).axes
    assert [len(axes.lines) for axes in (steps, gpu, cpu)] == [3, 2, 1]
    assert (gpu.get_title(loc="left"), cpu.get_title(loc="left")) == ("GPU, bf16", "CPU, float32")


def test_a_policy_whose_stage_one_is_not_known_has_no_learning_curve():
    given = cell("frozen", 4, 7)
    given = given._replace(trainings=[{}, *given.trainings])
    steps, _ = learning([given, cell("joint", 4, 7)]).axes
    assert [line.get_label() for line in steps.lines] == ["joint-demos4-seed0"]
    assert set(study.draw([given])) == {"success"}


def test_only_figures_with_something_to_show_are_drawn():
    both = [cell("two_stage", 4, 2), cell("two_stage", 64, 9)]
    assert set(study.draw(both)) == {"success", "by_demos", "learning"}
    alone = [both[0]._replace(trainings=[])]
    assert set(study.draw(alone)) == {"success"}


def test_trainings_are_read_in_the_order_in_which_they_ran(tmp_path: Path):
    stage = {"config": "trainer: {batch_size: 2}", "metrics": [{"step": 3, "val/loss": 1.5}]}
    file = tmp_path / "a.training.json"
    file.write_text(json.dumps({"train_video": stage, "train_policy": stage}))
    assert read_trainings(file) == [{"val/loss": Curve((3,), (0.0,), (1.5,))}] * 2
    assert read_trainings(tmp_path / "absent.json") == [] and read_machine(file) == ""
    single, half = ({"starts": [{"processor": "AMD EPYC", "precision": kind}]} for kind in ("no", "bf16"))
    file.write_text(json.dumps({"train_video": stage | single, "train_policy": stage | half}))
    assert read_machine(file) == "AMD EPYC, float32 and AMD EPYC, bf16"


def placed(of: Cell, places: list[tuple[float, float]]) -> Results:
    """Its results with the object at these x and y (metres)."""
    starts = [EpisodeStart(i, (("object", x, y),), (0.0, 0.0)) for i, (x, y) in enumerate(places)]
    pairs = zip(of.results.episodes, starts, strict=True)
    return of.results._replace(episodes=tuple(episode._replace(start=start) for episode, start in pairs))


def test_a_map_shows_the_training_demos_under_the_episodes_of_each_test():
    def tested(test: str) -> Cell:
        base = cell("two_stage", 4, 7)
        found = placed(base, [(0.01 * i, 0.1) for i in range(10)])
        return base._replace(test=test, results=found, places=[(0.0, 0.2)])

    right_alone = tested("right")._replace(name="joint-right", recipe="joint")
    figure = study.draw([tested("left"), tested("right"), right_alone])["positions"]
    assert [axes.axison for axes in figure.axes] == [
        True,
        True,
        False,
        True,
    ]  # no left one of the second policy
    for axes in (axes for axes in figure.axes if axes.axison):
        dots = [np.asarray(points.get_offsets()).tolist() for points in axes.collections]
        assert [len(each) for each in dots] == [1, 7, 3]
        assert dots[0] == [[0.2, 0.0]]


def test_a_policys_tests_stand_side_by_side_and_two_policies_in_a_row():
    def tested(recipe: str, test: str) -> Cell:
        base = cell(recipe, 4, 7)
        found = placed(base, [(0.01 * i, 0.1) for i in range(10)])
        return base._replace(name=f"{recipe}-{test}", test=test, results=found)

    cells = [tested(recipe, test) for recipe in ("a", "b", "c") for test in ("left", "right")]
    panels = [axes for axes in study.positions(cells).axes if axes.axison]
    spans = [axes.get_subplotspec() for axes in panels]
    assert [(each.rowspan.start, each.colspan.start) for each in spans if each] == [
        (0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (1, 1),
    ]  # fmt: skip
