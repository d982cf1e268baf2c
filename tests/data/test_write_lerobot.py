"""LIBERO demos written as a LeRobotDataset and read back."""

from __future__ import annotations

import json
import runpy
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from tests.data.rollout_files import FRAMES, SIZE, write
from vidpara.cli import UserError
from vidpara.config import DataConfig, ExportLeRobotConfig
from vidpara.data.rollouts import read_episodes
from vidpara.data.sources import read_sources
from vidpara.data.write_lerobot import write_dataset
from vidpara.exclusive import exclusive

ROOT = Path(__file__).parents[2]


@pytest.fixture
def config(tmp_path: Path) -> ExportLeRobotConfig:
    file = write(tmp_path / "push_the_line_demo.hdf5", smooth=True)
    return ExportLeRobotConfig((file,), tmp_path / "dataset", crf=10)


def export(config: ExportLeRobotConfig) -> int:
    episodes = [each for file in config.rollouts for each in read_episodes(file, size=config.size)]
    return write_dataset(episodes, config)


def test_an_export_reads_back_to_the_same_poses_and_nearly_the_same_frames(config):
    assert export(config) == 3 * FRAMES
    found, truth = read_sources(DataConfig(rollouts=(config.output,))), read_episodes(config.rollouts[0])
    for ours, original in zip(found, truth, strict=True):
        for name in ("position", "rotation", "opening", "pixel", "gripper"):
            torch.testing.assert_close(getattr(ours, name), getattr(original, name), atol=1e-6, rtol=1e-6)
        difference = np.abs(ours.images().astype(int) - original.images())
        assert difference.mean() < 3 < np.abs(ours.images()[1:].astype(int) - original.images()[:-1]).mean()


def test_a_resized_export_takes_the_camera_along(config):
    export(replace(config, size=(16, 48)))
    found, truth = read_sources(DataConfig(rollouts=(config.output,))), read_episodes(config.rollouts[0])
    assert found[0].image_size == (16, 48)
    torch.testing.assert_close(found[0].pixel, truth[0].pixel * torch.tensor([48 / SIZE, 16 / SIZE]))


def test_a_rows_action_is_the_one_taken_after_its_frame(config):
    with h5py.File(config.rollouts[0]) as file:
        actions = file["data/demo_0/actions"][:]
    export(config)
    written = pq.read_table(config.output / "data/chunk-000/file-000.parquet")["action"].to_pylist()
    np.testing.assert_allclose(written[: FRAMES - 1], actions[1:])
    assert written[FRAMES - 1] == [0, 0, 0, 0, 0, 0, actions[-1, 6]]


def test_counters_and_statistics_are_those_of_the_rows(config):
    export(config)
    table = pq.read_table(config.output / "data/chunk-000/file-000.parquet").to_pydict()
    assert table["index"] == list(range(3 * FRAMES)) and table["frame_index"] == list(range(FRAMES)) * 3
    statistics = json.loads((config.output / "meta/stats.json").read_text())
    for name in ("observation.state", "action"):
        for label in ("min", "max", "mean", "std"):
            expected = getattr(np.array(table[name]), label)(0)
            np.testing.assert_allclose(statistics[name][label], expected, atol=1e-6)


def test_nothing_is_overwritten_and_odd_sizes_are_refused(config):
    with pytest.raises(UserError, match=r"even sizes, the images have \(31, 32\).*--size"):
        export(replace(config, size=(31, 32)))
    export(config)
    with pytest.raises(UserError, match="exists; remove it or give another --output"):
        export(config)


def test_a_second_export_to_the_same_place_is_refused_meanwhile(config):
    stage = runpy.run_path(str(ROOT / "stages/export_lerobot.py"))
    with (
        exclusive(config.output.with_name(f"{config.output.name}.lock"), ""),
        pytest.raises(UserError, match="is being written by another command"),
    ):
        stage["run"](config, [])
    assert not config.output.exists()


def test_every_file_brings_its_task(config, tmp_path: Path):
    other = write(tmp_path / "KITCHEN_SCENE1_pull_the_line_demo.hdf5", smooth=True)
    told = write(tmp_path / "told.hdf5", smooth=True)
    with h5py.File(told, "r+") as file:
        file["data"].attrs["problem_info"] = json.dumps({"language_instruction": ["lift", "the", "line"]})
    config = replace(config, rollouts=(*config.rollouts, other, told))
    assert export(config) == 9 * FRAMES
    expected = ["push the line", "KITCHEN SCENE1 pull the line", "lift the line"]
    back = read_sources(DataConfig(rollouts=(config.output,)))
    assert [episode.task for episode in back] == [task for task in expected for _ in range(3)]
    rows = pq.read_table(config.output / "data/chunk-000/file-000.parquet")["task_index"].to_pylist()
    tasks = pq.read_table(config.output / "meta/tasks.parquet").to_pydict()
    assert [tasks["task"][tasks["task_index"].index(row)] for row in rows[:: 3 * FRAMES]] == expected
    assert json.loads((config.output / "meta/info.json").read_text())["total_tasks"] == 3


def test_files_of_two_image_sizes_are_named(config, tmp_path: Path):
    episodes = read_episodes(config.rollouts[0])
    episodes += read_episodes(write(tmp_path / "small.hdf5", smooth=True), size=(16, 16))
    with pytest.raises(UserError, match=r"push_the_line.*small\.hdf5.*--size ROWS COLUMNS"):
        write_dataset(episodes, config)


def test_an_export_of_nothing_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match="--rollouts name no episodes"):
        export(ExportLeRobotConfig((), tmp_path / "dataset"))
