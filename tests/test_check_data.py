"""The stage that checks data: what it says, shows and ends with, on right data and on broken ones."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import pytest
from data.rollout_files import drift, write

from vidpara.evaluation.video import write_mp4

ROOT = Path(__file__).parents[1]
SAMPLES = ROOT / "tests/data/samples"


def check(output: Path, *words: object) -> subprocess.CompletedProcess[str]:
    stage, cache = ROOT / "stages/check_data.py", output.parent / "latents"
    command = [sys.executable, stage, "--output", output, "--data.cache", cache, "--data.rollouts", *words]
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, cwd=output.parent)


def findings(output: Path) -> dict[str, dict[str, dict[str, str]]]:
    """What was found, by source and check; the page tells the same."""
    record = json.loads((output / "findings.json").read_text())
    page = (output / "page.html").read_text()
    assert all(source in page for source in record)
    return {source: {each["check"]: each for each in found} for source, found in record.items()}


@pytest.mark.parametrize("version", ["v2.0", "v2.1", "v3.0"])
def test_right_data_pass_and_are_shown(tmp_path, version):
    done = check(tmp_path / "out", SAMPLES / version, "--data.validation_demos", 1)
    assert done.returncode == 0, done.stdout + done.stderr
    found = findings(tmp_path / "out")
    verdicts = {each["verdict"] for of_source in found.values() for each in of_source.values()}
    assert verdicts == {"ok", "left out"}  # the replay needs a LIBERO file
    assert str(SAMPLES / version) in done.stdout and "round trip" in found["all sources"]
    assert (tmp_path / "out/passed").is_file()
    assert sorted(file.suffix for file in (tmp_path / "out").iterdir()) == [
        "",
        ".html",
        ".json",
        ".mp4",
        ".mp4",
        ".png",
    ]


def test_what_a_training_would_refuse_is_said_before(tmp_path):
    """Sixteen demos to hold out, of two."""
    done = check(tmp_path / "out", SAMPLES / "v3.0")
    assert done.returncode == 0, done.stdout + done.stderr
    finding = findings(tmp_path / "out")["all sources"]["split"]
    assert finding["verdict"] == "warning" and "2 demos, of which 16 are for validation" in finding["found"]


def test_sources_with_and_without_labels_are_checked_beside_one_another(tmp_path):
    write_mp4(tmp_path / "videos/a.mp4", drift(20, 0), 20, 10)
    done = check(tmp_path / "out", SAMPLES / "v3.0", tmp_path / "videos", "--data.size", "64", "64")
    assert done.returncode == 0, done.stdout + done.stderr
    found = findings(tmp_path / "out")
    assert found[str(tmp_path / "videos")]["labels"]["verdict"] == "warning"
    assert found[str(SAMPLES / "v3.0")]["camera"]["verdict"] == "ok"


def test_all_that_is_wrong_is_found_at_once_and_shown(tmp_path):
    """A missing file, a dataset of which one video is cut, and sources of different sizes: one page, status 2."""
    dataset = Path(shutil.copytree(SAMPLES / "v2.1", tmp_path / "dataset"))
    cut = next(dataset.rglob("episode_000001.mp4"))
    cut.write_bytes(cut.read_bytes()[:200])
    (dataset / "data/chunk-000/episode_000000.parquet").write_bytes(b"cut")
    rollouts = write(tmp_path / "rollouts.hdf5")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/passed").touch()  # by an earlier check
    done = check(tmp_path / "out", tmp_path / "missing.hdf5", dataset, rollouts)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1 and "page.html" in done.stderr
    found = findings(tmp_path / "out")
    assert "does not exist" in found[str(tmp_path / "missing.hdf5")]["reading"]["found"]
    of_dataset = found[str(dataset)]
    assert of_dataset["reading"]["found"].startswith("1 cannot be read, 1 can")
    assert of_dataset["videos"]["verdict"] == of_dataset["frames"]["verdict"] == "error"
    assert found[str(rollouts)]["reading"]["verdict"] == "ok"
    assert "mix image sizes" in found["all sources"]["together"]["found"]
    assert not (tmp_path / "out/passed").exists()
    assert (tmp_path / "out/sheet.png").is_file()  # of what can be read, though no training takes it together


def test_numbers_below_zero_are_one_line(tmp_path):
    done = check(tmp_path / "out", SAMPLES / "v3.0", "--decode", "-1")
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "--decode" in done.stderr


def test_a_configuration_that_names_no_source_is_one_line(tmp_path):
    done = check(tmp_path / "out", SAMPLES / "v3.0", SAMPLES / "v3.0")
    assert (
        done.returncode == 2 and done.stderr.count("\n") == 1 and "names the same data twice" in done.stderr
    )


def test_what_is_checked_is_what_a_training_would_read(tmp_path):
    """Of every second picture that repeats the one before a slower clock takes each once; other tasks are not read."""
    twice, black = write(tmp_path / "twice.hdf5", smooth=True), write(tmp_path / "black.hdf5")
    with h5py.File(twice, "a") as file:
        for demo in file["data"].values():
            demo["obs/agentview_rgb"][1::2] = demo["obs/agentview_rgb"][::2]
    with h5py.File(black, "a") as file:
        for demo in file["data"].values():
            demo["obs/agentview_rgb"][:] = 0
    named(twice, "open the drawer"), named(black, "wipe the table")
    check(tmp_path / "all", twice, black)
    found = findings(tmp_path / "all")
    assert found[str(twice)]["pictures"]["verdict"] == "warning"
    assert found[str(black)]["pictures"]["verdict"] == "error"
    check(tmp_path / "used", twice, black, "--data.fps", "10", "--data.tasks", "drawer")
    found = findings(tmp_path / "used")
    assert found[str(twice)]["pictures"]["verdict"] == "ok"
    assert list(found[str(black)]) == ["reading"]


def named(file: Path, task: str) -> None:
    with h5py.File(file, "a") as data:
        data["data"].attrs["problem_info"] = json.dumps({"language_instruction": task})


def test_films_of_sources_of_one_name_are_all_kept(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    sources = [write(tmp_path / f"{folder}/grid.hdf5", demos=2) for folder in ("a", "b")]
    check(tmp_path / "out", *sources)
    assert len(list((tmp_path / "out").glob("*.mp4"))) == 4


def test_a_workspace_that_is_too_small_is_found_like_any_other_fault(tmp_path):
    box = map(str, (0, 0, 0.9, 0.1, 0.1, 1.1))
    done = check(tmp_path / "out", SAMPLES / "v3.0", "--data.workspace", *box)
    assert done.returncode == 2
    found = findings(tmp_path / "out")["all sources"]
    assert "does not hold the end effector" in found["workspace"]["found"] and "round trip" not in found
