"""Checkpoints are complete or absent."""

from __future__ import annotations

import resource
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from vidpara.cli import UserError
from vidpara.training import checkpoint
from vidpara.training.checkpoint import Checkpoint
from vidpara.training.tensor_files import Writer

CONFIG = "run: runs/a\ntrainer:\n  steps: 10\n  seed: 0\nloss:\n  video: 1.0\n"


def at(step: int, size: int = 3) -> Checkpoint:
    tensors = {"model": {"a": torch.arange(size) / 3}, "ema": {}}
    return Checkpoint(step, CONFIG, tensors, {"average": [1 / 3]})


@contextmanager
def full_disk(free: int) -> Iterator[None]:
    """Real writes fail after `free` bytes. A file-size limit needs no privileges, unlike a small file system; the
    error comes out of the same system call as that of a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_loading_gives_what_was_saved(tmp_path: Path):
    checkpoint.save(tmp_path, at(7), keep=1)
    folder = checkpoint.latest(tmp_path)
    assert folder is not None
    loaded = checkpoint.load(folder)
    assert (loaded.step, loaded.config, loaded.state) == (7, CONFIG, {"average": [1 / 3]})
    assert (
        torch.equal(loaded.tensors["model"]["a"], at(7).tensors["model"]["a"]) and loaded.tensors["ema"] == {}
    )


def test_a_checkpoint_in_parts_is_read_whole_and_a_missing_part_is_named(tmp_path: Path):
    """Two writers at once; the second holds fewer rows, and nothing of what both hold alike."""
    rows, together = torch.arange(10.0).view(5, 2), threading.Barrier(2)
    parts = ({"a": rows[:3], "step": torch.tensor(7.0)}, {"a": rows[3:]})

    def write(rank: int) -> None:
        mine = Checkpoint(5, CONFIG, {"model": parts[rank]}, {})
        checkpoint.save(tmp_path, mine, 1, Writer(rank, 2, lambda: together.wait(60)))

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(write, range(2)))
    loaded = checkpoint.load(tmp_path / "checkpoint-00000005").tensors["model"]
    assert sorted(loaded) == ["a", "step"]
    assert torch.equal(loaded["a"], rows) and loaded["step"] == 7
    (tmp_path / "checkpoint-00000005/model-00002-of-00002.safetensors").unlink()
    with pytest.raises(UserError, match=r"checkpoint-00000005 is damaged .*model-00002-of-00002"):
        checkpoint.load(tmp_path / "checkpoint-00000005")


def test_the_newest_checkpoints_are_kept(tmp_path: Path):
    for step in (5, 90, 100):
        checkpoint.save(tmp_path, at(step), keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-00000090", "checkpoint-00000100"]


def test_half_written_folders_are_ignored_and_cleaned(tmp_path: Path):
    checkpoint.save(tmp_path, at(5), keep=1)
    (tmp_path / "checkpoint-00000008.part").mkdir()
    (tmp_path / "checkpoint-00000009").mkdir()
    (tmp_path / "checkpoint-00000009/model.safetensors").write_text("half")
    assert checkpoint.latest(tmp_path) == tmp_path / "checkpoint-00000005"
    checkpoint.clean(tmp_path)
    assert not list(tmp_path.glob("*.part"))


def test_a_folder_that_was_copied_in_part_is_no_checkpoint(tmp_path: Path):
    """What is written last is missing: neither is it gone on from nor do others make way for it."""
    cut = tmp_path / "checkpoint-00000010"
    checkpoint.save(tmp_path, at(10), keep=1)
    (cut / "state.json").unlink()
    with pytest.raises(UserError, match=r"checkpoint-00000010 is not whole.* copy the run anew, or delete"):
        checkpoint.latest(tmp_path)
    for step in (5, 10):
        checkpoint.save(tmp_path, at(step), keep=1)
        assert checkpoint.latest(tmp_path) == tmp_path / f"checkpoint-{step:08d}"
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-00000010"]


@pytest.mark.parametrize("free", [0, 4096])
def test_a_full_disk_leaves_the_previous_checkpoint(tmp_path: Path, free: int):
    checkpoint.save(tmp_path, at(5), keep=1)
    with (
        full_disk(free),
        pytest.raises(UserError, match=r"cannot write .*00000010: .*checkpoint-00000005 is intact"),
    ):
        checkpoint.save(tmp_path, at(10, size=100_000), keep=1)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-00000005"]
    assert checkpoint.load(tmp_path / "checkpoint-00000005").step == 5


def test_a_damaged_checkpoint_is_named(tmp_path: Path):
    checkpoint.save(tmp_path, at(5), keep=1)
    (tmp_path / "checkpoint-00000005/model.safetensors").write_text("rubbish")
    with pytest.raises(UserError, match="checkpoint-00000005 is damaged"):
        checkpoint.load(tmp_path / "checkpoint-00000005")


def test_another_configuration_is_an_error_that_names_each_key(tmp_path: Path):
    other = CONFIG.replace("seed: 0", "seed: 1").replace("video: 1.0", "volume: 1.0")
    with pytest.raises(UserError) as caught:
        checkpoint.check_config(tmp_path / "checkpoint-5", CONFIG, other)
    for words in (
        "trainer.seed (was 0, now 1)",
        "loss.video (was 1.0, now absent)",
        "loss.volume (was absent, now 1.0)",
    ):
        assert words in str(caught.value)
    assert "trainer.steps" not in str(caught.value)


def test_a_setting_newer_than_the_checkpoint_had_its_default(tmp_path: Path):
    newer = f"{CONFIG}  kl: 10.0\n"
    checkpoint.check_config(tmp_path, CONFIG, newer, defaults=newer)
    with pytest.raises(UserError, match=r"loss\.kl \(was 10\.0, now 2\.0\)"):
        checkpoint.check_config(tmp_path, CONFIG, newer.replace("10.0", "2.0"), defaults=newer)


def test_a_checkpoint_may_hold_a_retired_setting(tmp_path: Path):
    checkpoint.check_config(tmp_path, f"{CONFIG}policy:\n  head: {{loss: joint}}\n", CONFIG)


def test_what_may_change_is_returned_and_nothing_else_passes(tmp_path: Path):
    other = CONFIG.replace("steps: 10", "steps: 20").replace("seed: 0", "seed: 1")
    with pytest.raises(UserError, match=r"with another configuration: trainer.seed \(was 0, now 1\)\."):
        checkpoint.check_config(tmp_path, CONFIG, other)
    changed = checkpoint.check_config(tmp_path, CONFIG, other, free=checkpoint.LENGTH | {"trainer.seed"})
    assert changed == ["trainer.seed (was 0, now 1)", "trainer.steps (was 10, now 20)"]
    assert checkpoint.check_config(tmp_path, CONFIG, CONFIG) == []


def test_length_and_place_of_a_run_may_change(tmp_path: Path):
    checkpoint.check_config(tmp_path, CONFIG, CONFIG.replace("steps: 10", "steps: 20").replace("runs/a", "b"))
