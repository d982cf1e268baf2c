"""Which of the two checks of actions is made of which source, and in which words."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data.rollout_files import FRAMES, write

from vidpara.check_actions import check_actions, judge
from vidpara.config import DataConfig
from vidpara.data.finding import Finding
from vidpara.data.source_file import sources_of
from vidpara.data.sources import read_sources
from vidpara.simulation.replay import Apart, Replay

SAMPLES = Path(__file__).parent / "data/samples"
NEAR, FAR = Apart(0.001, 0.003, 0.002, 0.001, 1.0), Apart(0.1, 0.3, 0.2, 0.001, 0.8)


def found(path: Path, demos: int = 1, **settings) -> dict[str, Finding]:
    config = DataConfig(rollouts=(path,), **settings)
    checks = check_actions(sources_of(config)[0], read_sources(config), demos)
    return {each.check: each for each in checks}


def acted(folder: Path, change: Callable[[list[list[float]]], list[list[float]]]) -> Path:
    """A copy of a dataset with other actions."""
    dataset = Path(shutil.copytree(SAMPLES / "v3.0", folder / "dataset"))
    (file,) = (dataset / "data").rglob("*.parquet")
    columns = pq.read_table(file).to_pydict()
    pq.write_table(pa.table(columns | {"action": change(columns["action"])}), file)
    return dataset


def test_actions_of_a_dataset_are_compared_with_its_poses_and_no_simulator_is_asked():
    findings = found(SAMPLES / "v3.0")
    assert findings["actions"].verdict == "ok"
    assert findings["replay"].verdict == "left out" and "only LIBERO files" in findings["replay"].found


def test_a_datasets_negated_axis_is_named(tmp_path):
    folder = acted(tmp_path, lambda rows: [[-row[0], *row[1:]] for row in rows])
    finding = found(folder)["actions"]
    assert finding.verdict == "error" and "x goes with -x" in finding.found


def test_a_file_without_states_is_left_out_with_the_reason(tmp_path):
    finding = found(write(tmp_path / "rollouts.hdf5"))["replay"]
    assert (
        finding.verdict == "left out" and "has no states" in finding.found and "model_file" in finding.found
    )


def test_without_the_simulator_the_replay_is_left_out_with_the_extra_to_install(tmp_path, monkeypatch):
    path = write(tmp_path / "rollouts.hdf5", demos=1)
    with h5py.File(path, "a") as file:
        demo = file["data/demo_0"]
        demo["states"], demo["obs/joint_states"] = np.zeros((FRAMES, 5)), np.zeros((FRAMES, 7))
        demo.attrs["model_file"], file["data"].attrs["bddl_file_name"] = "<mujoco/>", "a.bddl"
    (tmp_path / "absent").mkdir()
    (tmp_path / "absent/mujoco.py").write_text("raise ModuleNotFoundError('absent', name='mujoco')\n")
    monkeypatch.syspath_prepend(tmp_path / "absent")  # a worker process gets this path, too
    finding = found(path)["replay"]
    assert finding.verdict == "left out" and "'mujoco'" in finding.found and "[sim]" in finding.found


def test_zero_demos_turn_the_replay_off(tmp_path):
    assert list(found(write(tmp_path / "rollouts.hdf5"), demos=0)) == ["actions", "rotations"]


@pytest.mark.parametrize(
    ("apart", "reading", "verdict", "words"),
    [
        ((NEAR, NEAR), "", "ok", "1.0 mm from where it was recorded on average"),
        ((NEAR, FAR), "", "warning", "no shift, sign, order of axes or unit explains it"),
        ((NEAR, FAR), "x is negated", "error", "x is negated: so read, 1.0 mm instead of 90.0 mm"),
    ],
)
def test_a_replay_is_judged_by_the_worst_demo_and_its_explanation(apart, reading, verdict, words):
    finding = judge(Replay(200, apart, reading, "negate x" if reading else "", 0.001, 0.09, 7.2))
    assert finding.verdict == verdict and words in finding.found + finding.fix and "in 7 s" in finding.found


def test_states_that_are_no_numbers_are_an_error(tmp_path):
    path = write(tmp_path / "rollouts.hdf5", demos=1)
    with h5py.File(path, "a") as file:
        demo = file["data/demo_0"]
        demo["states"], demo["obs/joint_states"] = np.full((FRAMES, 5), np.nan), np.zeros((FRAMES, 7))
        demo.attrs["model_file"] = "<mujoco/>"
    finding = found(path)["replay"]
    assert finding.verdict == "error" and "states holds what is no number in row 0" in finding.found


def test_commands_that_are_no_numbers_are_named_and_cost_the_others_nothing(tmp_path):
    folder = acted(tmp_path, lambda rows: [*rows[:3], [float("nan"), *rows[3][1:]], *rows[4:]])
    findings = found(folder)
    assert findings["commands"].verdict == "warning" and "1 of 2 episodes" in findings["commands"].found
    assert findings["actions"].verdict == "ok"


def test_a_row_without_a_command_costs_its_episode_alone(tmp_path):
    folder = acted(tmp_path, lambda rows: [*rows[:3], [], *rows[4:]])
    assert found(folder, on_error="skip")["actions"].verdict == "ok"
