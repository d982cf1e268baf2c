from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vidpara.cli import UserError
from vidpara.config import ReportConfig
from vidpara.evaluation import recording, results, video
from vidpara.evaluation.results import EpisodeRecord, Made, Results
from vidpara.evaluation.rollout import Outcome
from vidpara.report.page import facts, write_page
from vidpara.types import EpisodeStart

NAMES: dict[str, Outcome] = {"P": "PLACE", "G": "GRASP", "M": "MISS"}


def write_results(folder: Path, cell: str, outcomes: str, seed: int = 0) -> Path:
    starts = [
        EpisodeStart(seed + i, (("object", 0.01 * i, 0.0), ("target", 0.1, 0.1)), (0.0, 0.0))
        for i in range(9)
    ]
    episodes = tuple(
        EpisodeRecord(start, NAMES[letter], 90, 9, 2.0)
        for start, letter in zip(starts, outcomes, strict=False)
    )
    protocol = {"suite": "libero_spatial", "success": "PLACE: the goal predicate holds"}
    command = f"python stages/evaluate_policy.py --cell {cell}"
    results.write(
        folder / f"{cell}.json", Results(cell, episodes, command, {}, {"torch": "2.13"}, 1000, protocol)
    )
    return folder / f"{cell}.json"


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> ReportConfig:
    tmp_path = tmp_path_factory.mktemp("report")
    files = (write_results(tmp_path, "joint", "PMMMMMGM"), write_results(tmp_path, "two_stage", "PPPPPPGM"))
    film = [np.full((32, 32, 3), 90, np.uint8)] * 3
    video.write_mp4(recording.path(files[1], 0), film, 10, 24)
    video.write_mp4(recording.grid_path(files[1]), film, 10, 24)
    run = tmp_path / "runs" / "two_stage"
    run.mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(run / "strip.png")
    events = [{"step": 7, "train_step/loss": 0.5}, {"step": 7, "vis/val_strip": "strip.png"}]
    (run / "metrics.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    Image.new("RGB", (8, 8)).save(tmp_path / "sanity.png")
    (tmp_path / "timings.json").write_text('{"collect": 90, "video <stage one>": 30}')
    return ReportConfig(
        output=tmp_path / "page.html", results=files, runs=(run,), pictures=(tmp_path / "sanity.png",),
        timings=tmp_path / "timings.json", notes=("The task is narrowed.",), baseline="two_stage",
    )  # fmt: skip


class Links(HTMLParser):
    """All that a browser would load, and whether tags are balanced."""

    def __init__(self) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.depth: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.sources += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "poster")]
        if tag not in ("meta", "img", "input", "br", "link", "path", "use"):
            self.depth.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("path", "use"):
            assert self.depth.pop() == tag


def written(config: ReportConfig) -> str:
    write_page(config)
    return config.output.read_text()


@pytest.fixture(scope="module")
def page(config: ReportConfig) -> str:
    return written(config)


def test_the_page_loads_nothing_from_anywhere(page: str):
    links = Links()
    links.feed(page)
    assert links.depth == []
    assert len(links.sources) >= 4
    assert all(source.startswith("data:") for source in links.sources)
    without_media = re.sub(r"data:[^\"]*", "", page)
    assert "http" not in without_media and "url(" not in re.sub(r"url\(#\w+\)", "", without_media)
    assert "@import" not in page


def test_the_page_holds_the_numbers(page: str):
    assert "6/8" in page and "1/8" in page
    assert "75 % (41 to 93)" in page
    assert "p = 0.0625" in page and "only two_stage: 5, only joint: 0" in page
    assert "2.0 min" in page and "The task is narrowed." in page
    assert "python stages/evaluate_policy.py --cell joint" in page
    assert "true end effector green" in page


def test_the_baseline_comes_first(page: str):
    assert page.index("</span>two_stage</td>") < page.index("</span>joint</td>")


def test_a_cell_with_other_starts_is_shown_and_not_paired(config: ReportConfig, tmp_path: Path):
    others = (config.results[1], write_results(tmp_path, "joint", "PMMMMMGM", seed=50))
    page = written(ReportConfig(output=tmp_path / "page.html", results=others))
    assert "</span>joint</td>" in page and "p = " not in page


def test_those_with_the_same_starts_are_compared_and_stand_together(tmp_path: Path):
    here, there = {"seed": 0}, {"seed": 50}
    files = (
        write_results(tmp_path, "para-left", "PPPPPPGM", **here),
        write_results(tmp_path, "para-right", "PPPPPPPP", **there),
        write_results(tmp_path, "joint-left", "PMMMMMGM", **here),
        write_results(tmp_path, "joint-right", "MMMMMMMM", **there),
    )
    page = written(ReportConfig(output=tmp_path / "page.html", results=files))
    assert (
        "only para-left: 5, only joint-left: 0" in page and "only para-right: 8, only joint-right: 0" in page
    )
    rows = re.findall(r"</span>([\w-]+)</td>", page)
    assert rows == ["para-left", "joint-left", "para-right", "joint-right"]
    assert page.count('class="card starts"') == 2


def test_results_of_one_name_are_told_apart_by_their_folders(tmp_path: Path):
    (tmp_path / "cpu").mkdir()
    (tmp_path / "gpu").mkdir()
    files = tuple(write_results(tmp_path / place, "joint", "PMMMMMGM") for place in ("cpu", "gpu"))
    page = written(ReportConfig(output=tmp_path / "page.html", results=files, baseline="gpu/joint"))
    assert "only gpu/joint: 0, only cpu/joint: 0" in page
    one = write_results(tmp_path / "cpu", "joint", "PMMMMMGM").rename(tmp_path / "cpu/left.json")
    page = written(
        ReportConfig(output=tmp_path / "page.html", results=(one, *files[1:]), baseline="gpu/joint")
    )
    assert "only gpu/joint: 0, only cpu/joint: 0" in page
    two = write_results(tmp_path / "cpu", "joint", "PMMMMMGM").rename(tmp_path / "cpu/right.json")
    page = written(ReportConfig(output=tmp_path / "page.html", results=(one, two), baseline="cpu/right"))
    assert "only cpu/right: 0, only cpu/left: 0" in page
    files = tuple(write_results(tmp_path / place, "joint", "PMMMMMGM") for place in ("cpu", "gpu"))
    with pytest.raises(UserError, match="have one name, and so have their folders"):
        write_page(ReportConfig(output=tmp_path / "other.html", results=(files[0], files[0])))


def test_names_are_text_and_never_markup(page: str):
    assert "video &lt;stage one&gt;" in page and "<stage" not in page


def test_runs_alone_make_a_page(config: ReportConfig, tmp_path: Path):
    page = written(ReportConfig(output=tmp_path / "runs.html", runs=config.runs))
    assert "Training" in page and "Success in closed loop" not in page


def test_results_alone_make_a_page(config: ReportConfig, tmp_path: Path):
    page = written(ReportConfig(output=tmp_path / "results.html", results=config.results))
    assert "Success in closed loop" in page and "<h2>Training" not in page


@pytest.mark.parametrize("missing", ["results", "runs", "pictures", "timings"])
def test_what_is_missing_is_named_and_nothing_is_written(config: ReportConfig, tmp_path: Path, missing: str):
    gone, output = tmp_path / "gone.png", tmp_path / "page.html"
    changed = {missing: gone if missing == "timings" else (gone,)}
    with pytest.raises(UserError, match=r"gone\.png"):
        write_page(replace(config, output=output, **changed))
    assert not output.exists()


def test_a_baseline_that_is_none_of_the_results_is_named(config: ReportConfig, tmp_path: Path):
    with pytest.raises(UserError, match=r"--baseline jiont is none of the results' cells: .*joint"):
        write_page(replace(config, output=tmp_path / "page.html", baseline="jiont"))


def test_an_empty_report_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match="nothing to report"):
        write_page(ReportConfig(output=tmp_path / "page.html"))


def test_the_page_says_who_ran_the_episodes(tmp_path: Path):
    file = write_results(tmp_path, "joint", "PMMMMMGM")
    found = results.read(file)
    alone = ReportConfig(output=tmp_path / "page.html", results=(file,))
    results.write(file, found._replace(made=(Made("abc", "AMD EPYC", 8),)))
    assert "<dd>AMD EPYC</dd>" in written(alone)
    results.write(file, found._replace(made=(Made("abc", "AMD EPYC", 5), Made("def", "NVIDIA H100", 3))))
    assert "AMD EPYC (5 episodes, abc); NVIDIA H100 (3 episodes, def)" in written(alone)


def test_what_only_some_cells_have_been_measured_with_names_them():
    said = [
        ("default", {"views": "default", "max_steps": 400}),
        ("moved", {"views": "64", "max_steps": 400}),
        ("old", {"max_steps": 400}),
        ("far", {"views": "64", "max_steps": 400}),
    ]
    assert facts(said, {"seed"}) == [
        ("views", "default", ("default",)),
        ("views", "64", ("moved", "far")),
        ("views", "not said", ("old",)),
        ("max_steps", "400", ()),
    ]
