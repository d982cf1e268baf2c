"""From an experiment file to commands and their hashes."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from vidpara import cli
from vidpara.cli import UserError
from vidpara.config import CollectConfig, EvaluateConfig, TrainPolicyConfig, TrainVideoConfig
from vidpara.experiment.choose import required, select
from vidpara.experiment.declare import read
from vidpara.experiment.plan import Plan, plan

ROOT = Path(__file__).parents[2]
SMALL = {
    "name": "small",
    "overlays": ["configs/pocket.yaml"],
    "video": {"files": ["configs/video/stage_one.yaml"], "set": {"trainer.steps": 3}},
    "sweep": {"trainer.seed": [0, 1]},
    "cells": {
        "two_stage": {"files": ["configs/policy/two_stage.yaml"], "sweep": {"data.demos": [4, 16]}},
        "joint": {"files": ["configs/policy/joint.yaml"], "set": {"evaluate.controller.execute": 2}},
    },
    "evaluate": {"files": ["configs/evaluation/grid.yaml"], "set": {"episodes": 7}},
}
GIVEN = {"policy": "checkpoints/pocket_two_stage"}
JOINT = {"files": ["configs/policy/joint.yaml"]}
ROLLOUTS = {"files": ["configs/collect/demo.yaml"], "set": {"demos": 5}}


@pytest.fixture(autouse=True)
def in_the_root(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(ROOT)


def planned(tmp_path: Path, **changes: object) -> Plan:
    file = tmp_path / "small.yaml"
    file.write_text(yaml.safe_dump({**SMALL, **changes}, sort_keys=False))
    return plan(read(file))


def keys(of: Plan, stage: str) -> dict[str, str]:
    return {name: step.key for name, step in of.steps.items() if step.stage == stage}


def test_a_sweep_becomes_one_cell_a_combination(tmp_path: Path):
    names = [cell.name for cell in planned(tmp_path).cells]
    assert names == [
        "two_stage-seed0-demos4", "two_stage-seed0-demos16", "two_stage-seed1-demos4", "two_stage-seed1-demos16",
        "joint-seed0", "joint-seed1",
    ]  # fmt: skip


def test_a_cells_own_setting_wins_over_one_that_all_are_swept_over(tmp_path: Path):
    own = {**JOINT, "set": {"trainer.seed": 7}}
    found = planned(tmp_path, cells={"joint": JOINT, "own": own}, compare=None)
    assert [cell.name for cell in found.cells] == ["joint-seed0", "joint-seed1", "own"]
    assert cli.load(TrainPolicyConfig, found.steps["own train"].words).trainer.seed == 7


def test_a_swept_fraction_stays_in_the_logs_name(tmp_path: Path):
    rates = {"files": ["configs/policy/joint.yaml"], "sweep": {"optimizer.lr": [0.5]}}
    found = planned(tmp_path, sweep={}, cells={"rate": rates})
    assert {step.log.name for step in found.steps.values()} == {"rate-lr0.5.log"}


def test_nested_settings_are_those_written_in_one_word(tmp_path: Path):
    flat = {
        "data.size": [96, 96],
        "data.camera": "front",
        "trainer.seed": 5,
        "evaluate.controller.execute": 2,
    }
    nested = {
        "data": {"size": [96, 96], "camera": "front"}, "trainer": {"seed": 5},
        "evaluate": {"controller": {"execute": 2}},
    }  # fmt: skip
    one, other = (
        planned(tmp_path, cells={"two_stage": {**SMALL["cells"]["two_stage"], "set": each}}, compare=None)
        for each in (flat, nested)
    )
    assert one.steps == other.steps and len(one.cells) == 2  # its own seed, and the same images in stage one


def test_a_swept_path_and_a_rate_without_a_point_name_files(tmp_path: Path):
    swept = {"video_run": ["checkpoints/pocket_stage_one"], "optimizer.lr": ["1e-3", "3.0e-3"]}
    found = planned(tmp_path, sweep={}, cells={"frozen": {**JOINT, "sweep": swept}})
    assert [cell.name for cell in found.cells] == [
        "frozen-checkpoints_pocket_stage_one-lr0.001", "frozen-checkpoints_pocket_stage_one-lr0.003",
    ]  # fmt: skip


def test_an_evaluation_on_held_out_demos_waits_for_them_wherever_it_says_so(tmp_path: Path):
    (tmp_path / "judge.yaml").write_text("held_out: true\n")
    judge = {"files": ["configs/evaluation/grid.yaml", str(tmp_path / "judge.yaml")]}
    found = planned(tmp_path, rollouts=ROLLOUTS, evaluate=judge, sweep={}, cells={"joint": JOINT})
    assert found.steps["joint evaluate"].needs == ("rollouts", "joint train")


def test_cells_share_stage_one_and_the_one_without_does_not_wait_for_it(tmp_path: Path):
    found = planned(tmp_path)
    assert list(keys(found, "train_video")) == ["video", "video-seed1"]
    assert len(keys(found, "train_policy")) == len(keys(found, "evaluate_policy")) == 6
    assert found.steps["two_stage-seed0-demos4 train"].needs == ("video",)
    assert found.steps["two_stage-seed0-demos16 train"].needs == ("video",)
    assert found.steps["joint-seed0 train"].needs == ()


def test_a_steps_words_are_its_command(tmp_path: Path):
    found = planned(tmp_path)
    words = found.steps["joint-seed1 evaluate"].words
    policy = found.steps["joint-seed1 train"]
    assert words[: words.index("--policy")] == (
        "configs/evaluation/grid.yaml", "--episodes", "7", "--controller.execute", "2",
    )  # fmt: skip
    assert words[words.index("--policy") + 1] == str(policy.folder)
    assert "--controller.execute" not in policy.words


def test_cells_that_differ_in_their_evaluation_share_the_training(tmp_path: Path):
    recipe = {"files": ["configs/policy/joint.yaml"], "sweep": {"evaluate.denoising_steps": [1, 4]}}
    found = planned(tmp_path, cells={"joint": recipe}, sweep={"trainer.seed": [0]})
    assert [cell.name for cell in found.cells] == [
        "joint-seed0-denoising_steps1",
        "joint-seed0-denoising_steps4",
    ]
    assert list(keys(found, "train_policy")) == ["joint-seed0 train"]
    assert len(set(keys(found, "evaluate_policy").values())) == 2


def test_every_policy_takes_every_test_with_one_training(tmp_path: Path):
    tests = {"left": {"scene.y_range": [-0.3, 0.0]}, "right": {"scene.y_range": [0.0, 0.3], "episodes": 9}}
    found = planned(tmp_path, sweep={}, tests=tests, cells={"joint": SMALL["cells"]["joint"]})
    assert [(cell.name, cell.test) for cell in found.cells] == [
        ("joint-left", "left"),
        ("joint-right", "right"),
    ]
    assert list(keys(found, "train_policy")) == ["joint train"]
    left, right = (found.steps[f"joint-{test} evaluate"].words for test in tests)
    assert left[left.index("--scene.y_range") + 1 :][:2] == ("-0.3", "0.0")
    assert right[right.index("--episodes") + 1] == "9"


def test_an_included_file_says_what_the_file_itself_does_not(tmp_path: Path):
    shared = SMALL | {"compare": [["two_stage", "joint"], ["two_stage-seed0-demos4", "joint"]]}
    (tmp_path / "shared.yaml").write_text(yaml.safe_dump(shared, sort_keys=False))
    file = tmp_path / "small.yaml"
    file.write_text(yaml.safe_dump({"include": ["shared.yaml"], "title": "Own", "sweep": {}}))
    found = read(file)
    assert (found.title, dict(found.sweep), list(found.cells)) == ("Own", {}, ["two_stage", "joint"])
    file.write_text(yaml.safe_dump({"include": ["shared.yaml"], "policies": ["joint"]}))
    assert (list(read(file).cells), read(file).compare) == (["joint"], ())
    file.write_text(yaml.safe_dump({"include": ["shared.yaml"], "policies": ["jiont"]}))
    with pytest.raises(UserError, match="did you mean 'joint'"):
        read(file)
    (tmp_path / "above.yaml").write_text("include: [small.yaml]")
    with pytest.raises(UserError, match=r"name all of them in above\.yaml"):
        read(tmp_path / "above.yaml")


def test_a_part_of_a_plan_has_the_same_steps_and_those_they_need(tmp_path: Path):
    whole = planned(tmp_path, rollouts={"files": ["configs/collect/demo.yaml"], "set": {"demos": 5}})
    part = select(whole, ["joint-seed1"])
    assert [cell.name for cell in part.cells] == ["joint-seed1"]
    assert list(part.steps) == ["rollouts", "check", "joint-seed1 train", "joint-seed1 evaluate"]
    assert part.steps.items() <= whole.steps.items()
    with pytest.raises(UserError, match=r"no cell of 'small' has 'jiont'.*two_stage-seed0-demos4"):
        select(whole, ["jiont"])


def test_a_part_of_a_name_is_made_of_its_words(tmp_path: Path):
    whole = planned(tmp_path)
    assert [cell.name for cell in select(whole, ["demos4"]).cells] == [
        "two_stage-seed0-demos4",
        "two_stage-seed1-demos4",
    ]
    with pytest.raises(UserError, match="has 'demos1' in its name"):  # not demos16
        select(whole, ["demos1"])


def test_another_size_does_not_overwrite_the_results(tmp_path: Path):
    planned(tmp_path)
    other = plan(read(tmp_path / "small.yaml"), ["configs/full.yaml"])
    assert {cell.result.parent for cell in other.cells} == {Path("results/small-full")}
    assert "configs/full.yaml" in other.steps["joint-seed0 train"].words
    assert "configs/pocket.yaml" not in other.steps["joint-seed0 train"].words


def test_what_is_set_at_a_size_holds_there_alone_and_before_a_swept_value(tmp_path: Path):
    sizes = {"pocket": {"trainer.steps": 5, "optimizer.lr": 0.1}, "full": {"trainer.steps": 70}}
    joint = {"files": ["configs/policy/joint.yaml"], "set": {"trainer.steps": 4}, "at": sizes}
    video = {**SMALL["video"], "at": {"pocket": {}, "full": {"trainer.steps": 90}}}
    pocket = planned(tmp_path, cells={"joint": joint}, video=video, sweep={"optimizer.lr": [0.2]})
    full = plan(pocket.experiment, ["configs/full.yaml"])

    def config(of: Plan) -> TrainPolicyConfig:
        (words,) = (step.words for step in of.steps.values() if step.stage == "train_policy")
        return cli.load(TrainPolicyConfig, words)

    assert (config(pocket).trainer.steps, config(pocket).optimizer.lr) == (5, 0.2)
    assert (config(full).trainer.steps, config(full).optimizer.lr) == (70, 0.2)


def test_another_size_replaces_a_cells_own_overlays(tmp_path: Path):
    image = {"files": ["configs/policy/dinov3_para.yaml"], "overlays": ["configs/pocket_image.yaml"]}
    found = planned(tmp_path, cells={"image": image}, sweep={})
    assert found.steps["image train"].words[:2] == (*image["files"], *image["overlays"])
    other = plan(found.experiment, ["configs/full.yaml"])
    assert other.steps["image train"].words[:2] == (*image["files"], "configs/full.yaml")


def test_overlays_of_the_evaluation_and_of_the_rollouts_hold_at_every_size(tmp_path: Path):
    near, few = tmp_path / "near.yaml", tmp_path / "few.yaml"
    near.write_text("max_steps: 90\nepisodes: 3\ncontroller: {execute: 1}\n")
    few.write_text("demos: 3\nseed: 4\n")
    evaluate = {
        **SMALL["evaluate"],
        "overlays": [str(near)],
        "at": {"near": {"seed": 5}, "pocket": {}, "full": {}},
    }
    rollouts = {**ROLLOUTS, "overlays": [str(few)]}
    pocket = planned(tmp_path, evaluate=evaluate, rollouts=rollouts, sweep={}, cells={"joint": JOINT})
    for found in (pocket, plan(pocket.experiment, ["configs/full.yaml"])):
        judged = cli.load(EvaluateConfig, found.steps["joint evaluate"].words)
        assert (judged.max_steps, judged.episodes, judged.controller.execute, judged.seed) == (90, 7, 1, 5)
        collected = cli.load(CollectConfig, found.steps["rollouts"].words)
        assert (collected.demos, collected.seed) == (5, 4)
    plain = planned(tmp_path, rollouts=ROLLOUTS, sweep={}, cells={"joint": JOINT})
    assert plain.steps["rollouts"].key != pocket.steps["rollouts"].key


def test_a_size_of_which_the_file_says_nothing_is_refused(tmp_path: Path):
    found = planned(tmp_path, video={**SMALL["video"], "at": {"pocket": {"trainer.steps": 9}}})
    with pytest.raises(UserError, match=r"says what video is at pocket; .* add video\.at\.full "):
        plan(found.experiment, ["configs/full.yaml"])


def test_a_given_policy_has_no_other_size(tmp_path: Path):
    cells = {"joint": JOINT, "given": GIVEN}
    found = planned(tmp_path, sweep={}, cells=cells, compare=[["joint", "given"]])
    assert [cell.name for cell in found.cells] == ["joint", "given"] and len(found.pairs) == 1
    full = plan(found.experiment, ["configs/full.yaml"])
    assert [cell.name for cell in full.cells] == ["joint"] and not full.pairs
    with pytest.raises(UserError, match="trains nothing that could be of size full"):
        plan(planned(tmp_path, cells={"given": GIVEN}).experiment, ["configs/full.yaml"])


def test_an_overlay_of_the_users_own_is_a_size_too(tmp_path: Path):
    mine = tmp_path / "mine.yaml"
    mine.write_text("trainer: {batch_size: 2}\n")
    file = tmp_path / "small.yaml"
    joint = {**JOINT, "at": {"mine": {"trainer.steps": 7}}}
    file.write_text(yaml.safe_dump({**SMALL, "sweep": {}, "cells": {"joint": joint}}))
    with pytest.raises(UserError, match="names the size 'mine'"):
        plan(read(file))
    found = plan(read(file), [str(mine)])
    assert "--trainer.steps 7" in " ".join(found.steps["joint train"].words)


def test_a_finished_stage_one_is_taken_as_it_is_and_by_its_content(tmp_path: Path):
    run = tmp_path / "video"
    run.mkdir()
    (run / "config.yaml").write_text("run: video\n")
    cell = {"files": ["configs/policy/two_stage.yaml"], "set": {"video_run": str(run)}}
    first = planned(tmp_path, cells={"two_stage": cell})
    assert {step.stage for step in first.steps.values()} == {"train_policy", "evaluate_policy"}
    (run / "config.yaml").write_text("run: another\n")
    assert keys(first, "train_policy") != keys(planned(tmp_path, cells={"two_stage": cell}), "train_policy")


def test_a_second_seed_and_another_unet_have_a_stage_one_of_their_own(tmp_path: Path):
    two_stage = {"files": ["configs/policy/two_stage.yaml"], "sweep": {"unet.channels": [[8, 16], [16, 32]]}}
    found = planned(tmp_path, cells={"two_stage": two_stage})
    videos = {name: step for name, step in found.steps.items() if step.stage == "train_video"}
    assert list(videos) == [
        "video-channels8_16", "video-channels16_32", "video-seed1-channels8_16", "video-seed1-channels16_32",
    ]  # fmt: skip
    assert len({step.key for step in videos.values()}) == 4
    for name, step in found.steps.items():
        if step.stage == "train_policy":
            same = name.removeprefix("two_stage").removesuffix(" train").replace("-seed0", "")
            assert step.needs == (f"video{same}",)


def test_stage_one_sees_the_data_of_its_policies_unless_it_says_otherwise(tmp_path: Path):
    given = {
        "data.rollouts": ["mine.hdf5"], "data.validation_demos": 32, "data.clip.frames": 9, "data.demos": 4,
        "data.lerobot.gripper_at": 7,
    }  # fmt: skip
    video = SMALL["video"] | {"set": {"trainer.steps": 3, "data.rollouts": ["theirs.hdf5"]}}
    for recipe, rollouts in ((SMALL["video"], "mine.hdf5"), (video, "theirs.hdf5")):
        found = planned(tmp_path, sweep={}, set=given, video=recipe)
        (step,) = (step for step in found.steps.values() if step.stage == "train_video")
        config = cli.load(TrainVideoConfig, step.words)
        assert config.data.rollouts == (Path(rollouts),) and config.data.validation_demos == 32
        assert config.data.clip.frames == 9 and config.data.lerobot.gripper_at == 7
        assert config.data.demos == 0  # the video of all


def test_policies_of_other_data_have_a_stage_one_of_their_own(tmp_path: Path):
    cells = {
        name: {
            "files": ["configs/policy/two_stage.yaml"],
            "set": {"data.validation_demos": held_out, "trainer.steps": steps},
        }
        for name, held_out, steps in (("a", 8, 2), ("b", 32, 2), ("c", 8, 3))
    }
    found = planned(tmp_path, sweep={}, cells=cells)
    videos = [name for name, step in found.steps.items() if step.stage == "train_video"]
    assert len(videos) == 2 and videos[0] == "video" and videos[1].startswith("video-")
    assert [found.steps[f"{name} train"].needs for name in cells] == [
        (videos[0],),
        (videos[1],),
        (videos[0],),
    ]


def test_only_what_an_unpublished_cell_needs_is_required(tmp_path: Path):
    found = planned(tmp_path, rollouts=ROLLOUTS)
    two_stage = {cell.name for cell in found.cells if cell.recipe == "two_stage"}
    left = {name for name in found.steps if name.startswith("two_stage")} | {"video", "video-seed1"}
    assert required(found, two_stage) == found.steps.keys() - left
    assert required(found, {cell.name for cell in found.cells}) == set()
    assert required(found) == set(found.steps)


def test_training_alone_needs_no_evaluation(tmp_path: Path):
    found = planned(tmp_path, rollouts=ROLLOUTS)
    judged = {name for name, step in found.steps.items() if step.stage == "evaluate_policy"}
    assert required(found, train_only=True) == found.steps.keys() - judged


@pytest.mark.parametrize("held_out", [False, True])
def test_a_policy_trained_elsewhere_is_evaluated_without_its_rollouts_and_its_stage_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held_out: bool
):
    monkeypatch.setitem(SMALL, "evaluate", {**SMALL["evaluate"], "set": {"held_out": held_out}})
    found = planned(tmp_path, rollouts=ROLLOUTS, runs=str(tmp_path / "runs"), data=str(tmp_path / "data"))
    policy = found.steps["two_stage-seed0-demos4 train"].product
    policy.parent.mkdir(parents=True)
    policy.touch()
    part = select(found, ["two_stage-seed0-demos4"])
    demos = {"rollouts", "check"} if held_out else set()
    assert required(part) == {"two_stage-seed0-demos4 evaluate", *demos}


def test_what_changes_a_result_changes_the_hash_of_all_that_follows(tmp_path: Path):
    before = planned(tmp_path)
    after = planned(tmp_path, video={"files": ["configs/video/stage_one.yaml"], "set": {"trainer.steps": 4}})
    changed = {name for name, step in before.steps.items() if after.steps.get(name, step).key != step.key}
    assert changed == {
        "video",
        "video-seed1",
        *(name for name in before.steps if name.startswith("two_stage")),
    }


def test_what_cannot_change_a_result_does_not_change_the_hash(tmp_path: Path):
    evaluate = {"files": ["configs/evaluation/grid.yaml"], "set": {"episodes": 7, "videos": 3, "workers": 1}}
    video = {
        "files": ["configs/video/stage_one.yaml"],
        "set": {"trainer.steps": 3, "trainer.validate_every": 2},
    }
    before, after = planned(tmp_path), planned(tmp_path, evaluate=evaluate, video=video)
    assert {name: step.key for name, step in before.steps.items()} == {
        n: s.key for n, s in after.steps.items()
    }


def test_the_rollouts_count_by_content(tmp_path: Path):
    rollouts = tmp_path / "rollouts.hdf5"
    found = []
    for content in (b"one", b"two", b"one"):
        rollouts.unlink(missing_ok=True)
        rollouts.write_bytes(content)
        found.append(
            keys(
                planned(tmp_path, sweep={"data.rollouts": [[str(rollouts)]], "trainer.seed": [0]}),
                "train_policy",
            )
        )
    one, two, again = (sorted(each.values()) for each in found)
    assert one == again
    assert not set(one) & set(two)


def test_weights_cameras_and_described_sources_count_by_content(tmp_path: Path):
    weights, cameras, source = tmp_path / "weights", tmp_path / "cameras.yaml", tmp_path / "source.yaml"
    weights.mkdir()
    data = tmp_path / "data.hdf5"
    source.write_text(f"path: {data}\n")
    files = (weights / "config.json", cameras, data)
    sweep = {
        "unet.weights": [str(weights)], "data.cameras": [str(cameras)], "data.rollouts": [[str(source)]],
        "trainer.seed": [0],
    }  # fmt: skip
    for file in files:
        file.write_text("{}")
    seen = [keys(planned(tmp_path, sweep=sweep), "train_policy")]
    for number, file in enumerate(files):
        file.write_text(f"{{}} {number}")
        seen.append(keys(planned(tmp_path, sweep=sweep), "train_policy"))
    assert len({key for each in seen for key in each.values()}) == sum(map(len, seen))


def test_collected_rollouts_come_first_and_are_checked_and_all_that_trains_reads_them(tmp_path: Path):
    found = planned(tmp_path, rollouts={"files": ["configs/collect/demo.yaml"], "set": {"demos": 5}})
    assert list(found.steps)[:2] == ["rollouts", "check"]
    assert found.steps["rollouts"].whole
    trained = [step for step in found.steps.values() if step.stage.startswith("train_")]
    assert all(step.needs[0] == "rollouts" for step in trained)
    assert all(str(found.steps["rollouts"].product) in step.words for step in trained)
    other = planned(tmp_path, rollouts={"files": ["configs/collect/demo.yaml"], "set": {"demos": 6}})
    assert not set(keys(found, "evaluate_policy").values()) & set(keys(other, "evaluate_policy").values())


def test_stage_one_may_see_rollouts_whose_actions_no_policy_is_shown(tmp_path: Path):
    whole = {**ROLLOUTS, "set": {"demos": 9}}
    alike = planned(tmp_path, rollouts=whole)
    found = planned(tmp_path, rollouts=ROLLOUTS, video_rollouts=whole)
    part = found.steps["rollouts"].product
    all_of_it = found.steps["video rollouts"].product
    assert part != all_of_it == alike.steps["rollouts"].product
    for name, step in found.steps.items():
        if step.stage in ("train_video", "train_policy"):
            seen = step.words[step.words.index("--data.rollouts") + 1]
            assert seen == str(all_of_it if step.stage == "train_video" else part), name
    # the same stage one, wherever its rollouts are declared, and policies of their own
    assert keys(found, "train_video") == keys(alike, "train_video")
    assert not set(keys(found, "train_policy").values()) & set(keys(alike, "train_policy").values())
    two_stage = next(cell for cell in found.cells if cell.recipe == "two_stage")
    assert two_stage.steps[:3] == ("rollouts", "video rollouts", "video")
    joint = next(cell for cell in found.cells if cell.recipe == "joint")
    assert "video rollouts" not in joint.steps


def test_a_given_policy_is_only_evaluated(tmp_path: Path):
    policy = "checkpoints/pocket_two_stage"
    found = planned(tmp_path, cells={"given": {"policy": policy}})
    assert [step.stage for step in found.steps.values()] == ["evaluate_policy"]
    (step,) = found.steps.values()
    assert step.words[step.words.index("--policy") + 1] == policy
    with pytest.raises(UserError, match="no finished policy and no weights"):
        planned(tmp_path, cells={"given": {"policy": "checkpoints/absent"}})


def recipes(found: Plan, *names: str) -> list[str]:
    return [cell.recipe for cell in found.cells if cell.name in names]


def test_compared_are_recipes_wherever_they_agree_and_cells_by_their_names(tmp_path: Path):
    cells = {
        "joint": {**SMALL["cells"]["joint"], "sweep": {"data.demos": [4, 8]}},
        "two": SMALL["cells"]["joint"],
        "given": {"policy": "checkpoints/pocket_two_stage"},
    }
    pairs = [["joint", "given"], ["joint-demos4", "joint-demos8"], ["joint-demos8", "given"]]
    found = planned(tmp_path, cells=cells, sweep={}, compare=pairs)
    assert list(found.pairs) == [
        ("joint-demos4", "given"),
        ("joint-demos8", "given"),
        ("joint-demos4", "joint-demos8"),
        ("joint-demos8", "given"),
    ]
    seeds = {"trainer.seed": [0, 1]}
    found = planned(
        tmp_path, cells=cells, sweep=seeds, compare=[["joint", "two"], ["two-seed0", "two-seed1"]]
    )
    assert list(found.pairs) == [
        *((f"joint-seed{seed}-demos{demos}", f"two-seed{seed}") for seed in (0, 1) for demos in (4, 8)),
        ("two-seed0", "two-seed1"),
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"compare": [["two_stage", "jiont"]]}, "jiont"),
        ({"cels": {}}, "did you mean 'cells'"),
        ({"cells": {}}, "has no 'cells'"),
        ({"cells": {"a": {"file": []}}}, "did you mean 'files'"),
        (
            {"cells": {"a": {"files": ["configs/policy/para.yaml"], "set": {"trainer.step": 1}}}},
            "trainer.steps",
        ),
        ({"evaluate": {"files": ["configs/evaluation/absent.yaml"]}}, "does not exist"),
        (
            {"evaluate": {**SMALL["evaluate"], "overlays": ["configs/absent.yaml"]}},
            r"configs/absent\.yaml does not",
        ),
        (
            {"rollouts": {**ROLLOUTS, "overlays": ["configs/absent.yaml"]}},
            r"configs/absent\.yaml does not exist",
        ),
        ({"sweep": {"data.demos": 240}}, "sweep: data.demos holds 240, expected a list"),
        (
            {"cells": {"a": {"files": "configs/policy/para.yaml"}}},
            "cells.a.files holds .*expected a list of words",
        ),
        ({"cells": {"a": {"at": {"pocket": 3}}}}, "cells.a.at.pocket holds a int, expected a mapping"),
        (
            {"cells": {"a": {**JOINT, "at": {"poket": {}}}}},
            r"cells\.a\.at names the size 'poket'; did you mean 'pocket'",
        ),
        (
            {"cells": {"a": {**JOINT, "at": {"full": {"trainer.stepz": 3}}}}},
            r"cells\.a\.at\.full: unknown key 'trainer\.stepz'; did you mean 'trainer\.steps'",
        ),
        ({"rollouts": {"set": {"demos": 64}}}, "rollouts names no 'files'"),
        ({"video": {}}, "two_stage-seed0-demos4 starts from stage one: add video.files to small"),
        ({"sweep": {"data.demos": [0, 16]}}, "data.demos holds 0, which stands for all of them"),
        ({"compare": [["two_stage", "joint", "two_stage"]]}, "expected pairs of cells"),
        ({"name": 5}, "name holds 5, expected a word"),
        ({"include": 5}, "include holds 5, expected a list of words"),
        ({"policies": ["joint"], "cells": ["joint"]}, "cells holds a list, expected a mapping"),
        ({"policies": [["joint"]]}, "policies holds .*expected a list of words"),
        ({"evaluate": {"set": ["episodes"]}}, "evaluate.set holds a list, expected a mapping"),
        ({"pictures": ["docs/absent.png"]}, r"the picture docs/absent\.png does not exist"),
        ({"cells": {"a": {"policy": 5}}}, "cells.a.policy holds 5, expected a policy's folder"),
        (
            {"cells": {"a": GIVEN | {"set": {"denoising_steps": 4}}}},
            "'denoising_steps' cannot change.*evaluate.d",
        ),
        ({"cells": {"a": GIVEN | {"sweep": {"trainer.seed": [1]}}}}, "'trainer.seed' cannot change"),
        ({"cells": {"a": GIVEN | {"files": ["configs/policy/joint.yaml"]}}}, "joint.yaml' cannot change"),
        (
            {"sweep": {}, "cells": {"a": JOINT | {"sweep": {"data.demos": [4]}}, "a-demos4": JOINT}},
            "two cells called 'a-demos4'",
        ),
        (
            {"sweep": {}, "cells": {"a": JOINT, "b": JOINT | {"set": {"evaluate.seed": 3}}}},
            "'a train' and 'b train' are the same; drop one",
        ),
        ({"sweep": {"trainer.seed": [1, 1]}}, "two cells called 'two_stage-seed1-demos4'"),
        (
            {"video": {"files": ["configs/video/stage_one.yaml"], "set": {"data.clip.stride": 2}}},
            "two_stage-seed0-demos4: data.clip.stride is 3, in its stage one 2; make them equal",
        ),
    ],
)
def test_a_wrong_file_is_one_clear_error(tmp_path: Path, change: dict[str, object], message: str):
    with pytest.raises(UserError, match=message):
        planned(tmp_path, **change)


@pytest.mark.parametrize(
    "path", sorted((ROOT / "configs/experiments").glob("*.yaml")), ids=lambda path: path.stem
)
def test_every_shipped_experiment_is_valid(path: Path):
    found = plan(read(path))
    if all("full" in cell.at for cell in found.experiment.cells.values() if not cell.policy):
        assert len(plan(found.experiment, ["configs/full.yaml"]).cells) <= len(found.cells)
    for pair in found.experiment.compare:
        assert any(set(pair) <= {one, other, *recipes(found, one, other)} for one, other in found.pairs), pair
