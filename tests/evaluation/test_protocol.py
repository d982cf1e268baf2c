from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch

from tests.evaluation.fakes import CAMERA, OBJECT, Crashing, Failing, PointMass, Scripted
from vidpara.cli import UserError
from vidpara.config import ControllerConfig, EvaluateConfig, SceneConfig
from vidpara.evaluation import episode_log, protocol, recording, results, video
from vidpara.evaluation.protocol import Look
from vidpara.types import ActionChunk, Observation, RobotState

CPU = torch.device("cpu")
SCENE = SceneConfig(
    x_range=(OBJECT[0] - 0.04, OBJECT[0] + 0.04), y_range=(OBJECT[1], OBJECT[1] + 0.001), grid=(4, 1),
    target="fixed", target_xy=(-0.1, 0.1), separation=0.05,
)  # fmt: skip
"""The object within 4 cm of where the scripted policy grasps: some episodes succeed."""


def settings(tmp_path: Path, **changes: Any) -> EvaluateConfig:
    base = EvaluateConfig(output=tmp_path / "a.json", episodes=6, max_steps=60, workers=1, scene=SCENE)
    return replace(base, **changes)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Runs episodes in this process, one after the other, and notes which were begun: starting processes takes
    seconds, and is tested once."""
    begun: list[int] = []

    def run(
        items: Sequence[Any], fn: Callable[..., Any], scene: SceneConfig, workers: int, answer: Any, make: Any
    ) -> Iterator[tuple[int, Any]]:
        simulator = make(scene)
        for position, job in enumerate(items):
            begun.append(job.index)
            yield position, fn(simulator, job, lambda request: answer([request])[0])

    monkeypatch.setattr(protocol.workers, "run", run)
    return begun


def evaluate(config: EvaluateConfig, make: Any = PointMass, fingerprint: str = "weights") -> results.Results:
    return protocol.evaluate(Scripted(), CPU, fingerprint, config, ["--output", str(config.output)], make)


def test_every_start_is_run_once_and_all_is_written(tmp_path: Path, here: list[int]):
    found = evaluate(settings(tmp_path))
    assert here == [0, 1, 2, 3, 4, 5]
    assert {e.outcome for e in found.episodes} == {"PLACE", "MISS"}
    assert [e.start for e in found.episodes] == protocol.scene.starts(SCENE, 6, found.seed)
    assert results.read(tmp_path / "a.json") == found
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    assert str(tmp_path) not in (tmp_path / "a.json").read_text()


def test_a_cell_has_its_files_name_until_it_is_given_another(tmp_path: Path, here: list[int]):
    assert evaluate(settings(tmp_path, episodes=1)).cell == "a"
    assert evaluate(settings(tmp_path, episodes=1, cell="joint")).cell == "joint"
    assert len(here) == 1 and results.read(tmp_path / "a.json").cell == "joint"


def test_the_protocol_says_how_it_was_run(tmp_path: Path, here: list[int]):
    said = evaluate(settings(tmp_path, episodes=1)).protocol
    keys = {
        "suite",
        "task",
        "layout",
        "starts",
        "max_steps",
        "settle_steps",
        "execute",
        "rotation",
        "render",
        "success",
    }
    assert keys <= said.keys()
    assert said["max_steps"] == 60


def test_a_stopped_evaluation_goes_on_and_equals_an_uninterrupted_one(tmp_path: Path, here: list[int]):
    with pytest.raises(RuntimeError):
        evaluate(settings(tmp_path), Failing)
    assert here == [0, 1, 2]
    assert not (tmp_path / "a.json").exists()
    here.clear()
    found = evaluate(settings(tmp_path))
    assert here == [2, 3, 4, 5]
    whole = evaluate(settings(tmp_path, output=tmp_path / "b.json"))
    assert [e._replace(seconds=0, look=0) for e in found.episodes] == [
        e._replace(seconds=0, look=0) for e in whole.episodes
    ]
    here.clear()
    assert evaluate(settings(tmp_path)) == found
    assert here == []


def test_a_line_torn_by_a_kill_is_run_again(tmp_path: Path, here: list[int]):
    with pytest.raises(RuntimeError):
        evaluate(settings(tmp_path), Failing)
    part = tmp_path / "a.part.jsonl"
    part.write_text(part.read_text()[:-9])
    here.clear()
    found = evaluate(settings(tmp_path))
    assert here == [1, 2, 3, 4, 5] and len(found.episodes) == 6


def test_more_episodes_continue_a_finished_evaluation_and_fewer_are_refused(tmp_path: Path, here: list[int]):
    evaluate(settings(tmp_path, episodes=3))
    here.clear()
    assert len(evaluate(settings(tmp_path, episodes=5)).episodes) == 5
    assert here == [3, 4]
    with pytest.raises(UserError, match="holds 5 episodes"):
        evaluate(settings(tmp_path, episodes=4))


def test_fewer_episodes_than_a_stopped_evaluation_has_cost_it_none(tmp_path: Path, here: list[int]):
    evaluate(settings(tmp_path, episodes=5))
    whole = results.read(tmp_path / "a.json")
    log = episode_log.EpisodeLog(settings(tmp_path, episodes=6), "weights", torch.device("cpu"))
    for index, episode in enumerate(whole.episodes[:4]):
        log.append(index, episode)
    (tmp_path / "a.json").unlink()
    with pytest.raises(
        UserError, match=r"a\.part\.jsonl holds finished episodes up to number 3; set --episodes 4"
    ):
        evaluate(settings(tmp_path, episodes=2))
    here.clear()
    assert len(evaluate(settings(tmp_path, episodes=5)).episodes) == 5 and here == [4]


@pytest.mark.parametrize("finished", [True, False])
def test_another_configuration_for_the_same_output_is_refused(
    tmp_path: Path, here: list[int], finished: bool
):
    if finished:
        evaluate(settings(tmp_path, episodes=3))
    else:
        with pytest.raises(RuntimeError):
            evaluate(settings(tmp_path), Failing)
    with pytest.raises(UserError, match=r"controller\.execute 3, now it is 2.*--output"):
        evaluate(settings(tmp_path, controller=ControllerConfig(execute=2)))
    with pytest.raises(UserError, match="other weights"):
        evaluate(settings(tmp_path), fingerprint="trained further")


def test_a_setting_newer_than_the_file_had_its_default(tmp_path: Path, here: list[int]):
    evaluate(settings(tmp_path, episodes=3))
    content = json.loads((tmp_path / "a.json").read_text())
    del content["config"]["denoising_steps"], content["config"]["scene"]["azimuths"]
    (tmp_path / "a.json").write_text(json.dumps(content))
    assert len(evaluate(settings(tmp_path, episodes=4)).episodes) == 4
    with pytest.raises(UserError, match="denoising_steps 0, now it is 2"):
        evaluate(settings(tmp_path, episodes=4, denoising_steps=2))


def test_the_time_of_a_look_is_measured_and_outlives_a_stop(tmp_path: Path, here: list[int]):
    with pytest.raises(RuntimeError):
        evaluate(settings(tmp_path), Failing)
    found = evaluate(settings(tmp_path))
    known = [episode.look for episode in found.episodes]
    assert all(look is not None and 0 < look < 1 for look in known)
    assert found.measured["seconds_per_look"] == pytest.approx(np.median(known), abs=1e-5)
    assert results.read(tmp_path / "a.json") == found


def test_who_ran_the_episodes_is_said_where_an_evaluation_goes_on_elsewhere(
    tmp_path: Path, here: list[int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(episode_log, "processor", lambda device: "AMD EPYC")
    with pytest.raises(RuntimeError):
        evaluate(settings(tmp_path), Failing)  # after two episodes
    assert "finished, by" not in capsys.readouterr().err
    monkeypatch.setattr(episode_log, "processor", lambda device: "NVIDIA H100")
    found = evaluate(settings(tmp_path, episodes=5))
    assert [(made.processor, made.episodes) for made in found.made] == [("AMD EPYC", 2), ("NVIDIA H100", 3)]
    assert "2 episodes are finished, by " in capsys.readouterr().err
    more = evaluate(settings(tmp_path, episodes=6))
    assert [(made.processor, made.episodes) for made in more.made] == [("AMD EPYC", 2), ("NVIDIA H100", 4)]
    assert {made.commit for made in more.made} == {more.versions["commit"]}


def test_what_is_measured_later_is_added_to_a_finished_evaluation(tmp_path: Path, here: list[int]):
    config = settings(tmp_path, episodes=1)
    before = evaluate(config)
    here.clear()
    after = protocol.evaluate(Scripted(), CPU, "weights", config, [], PointMass, {"val/position_error": 0.02})
    assert here == [] and after == results.read(config.output)
    assert after == before._replace(measured={"val/position_error": 0.02, **before.measured})


def test_a_simulator_fault_is_an_error_that_names_the_episode(tmp_path: Path, here: list[int]):
    with pytest.raises(RuntimeError, match=r"in episode 2; the rendering context is lost"):
        evaluate(settings(tmp_path), Failing)
    lines = [json.loads(line) for line in (tmp_path / "a.part.jsonl").read_text().splitlines()]
    assert [line["index"] for line in lines[1:]] == [0, 1]


def test_a_simulator_process_that_dies_is_an_error_that_names_the_episode(tmp_path: Path):
    with pytest.raises(RuntimeError, match=r"in episode 1; .*died with exit code 11"):
        evaluate(settings(tmp_path), Crashing)
    assert len((tmp_path / "a.part.jsonl").read_text().splitlines()) == 2


def test_recorded_episodes_are_readable_videos_with_a_frame_a_point(tmp_path: Path, here: list[int]):
    config = settings(tmp_path, videos=2)
    found = evaluate(config)
    lengths = []
    for index in range(2):
        with av.open(str(recording.path(config.output, index))) as film:
            stream = film.streams.video[0]
            assert (stream.width, stream.height, stream.format.name) == (
                recording.SIZE,
                recording.SIZE,
                "yuv420p",
            )
            lengths.append(sum(1 for _ in film.decode(video=0)) - recording.HOLD)
    for length, episode in zip(lengths, found.episodes, strict=False):
        assert episode.steps / 6 <= length <= episode.steps / 3 + 1
    assert len(video.read_mp4(recording.grid_path(config.output))) == max(lengths) + recording.HOLD
    assert not recording.path(config.output, 2).exists()


def test_videos_can_be_added_to_a_finished_evaluation(tmp_path: Path, here: list[int]):
    before = evaluate(settings(tmp_path))
    here.clear()
    assert evaluate(settings(tmp_path, videos=1)) == before
    assert here == [0]
    assert recording.path(tmp_path / "a.json", 0).exists()


def test_a_grid_video_that_an_interrupt_prevented_is_made_by_the_next_call(tmp_path: Path, here: list[int]):
    config = settings(tmp_path, videos=1)
    before = evaluate(config)
    recording.grid_path(config.output).unlink()
    here.clear()
    assert evaluate(config) == before and here == []
    assert recording.grid_path(config.output).exists()


def test_a_grid_video_that_an_interrupt_left_as_it_was_is_made_anew_by_the_next_call(
    tmp_path: Path, here: list[int], monkeypatch: pytest.MonkeyPatch
):
    evaluate(settings(tmp_path, videos=1))
    config = settings(tmp_path, videos=2)
    grid = recording.grid_path(config.output)

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(recording, "write_grid", interrupted)
        evaluate(config)  # the second recording is there, the film of both is not
    side = recording.CELL + 2 * recording.BORDER
    assert video.read_mp4(grid)[0].shape[1] == side
    evaluate(config)
    assert video.read_mp4(grid)[0].shape[1] == 2 * side
    made = grid.stat().st_mtime_ns
    evaluate(config)
    assert grid.stat().st_mtime_ns == made


def test_an_output_that_would_be_its_own_folder_of_videos_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match=r"--output .*/a must end with .json"):
        evaluate(replace(settings(tmp_path), output=tmp_path / "a"))


def test_the_videos_of_an_earlier_evaluation_do_not_stand_for_this_ones(tmp_path: Path):
    evaluate(settings(tmp_path, videos=1))
    film = recording.path(tmp_path / "a.json", 0)
    (tmp_path / "a.json").unlink()
    film.write_bytes(b"of another policy")
    evaluate(settings(tmp_path, videos=1))
    assert film.read_bytes() != b"of another policy"
    grid = recording.grid_path(tmp_path / "a.json")
    assert grid.is_file()
    (tmp_path / "a.json").unlink()
    evaluate(settings(tmp_path))
    assert not grid.exists() and not film.exists()


def test_failures_are_recorded_on_request(tmp_path: Path, here: list[int]):
    before = evaluate(settings(tmp_path, videos=1))
    here.clear()
    assert evaluate(settings(tmp_path, videos=1, failures=2)) == before
    missed = [index for index, episode in enumerate(before.episodes) if episode.outcome == "MISS"][:2]
    assert here == [index for index in missed if index > 0]
    shown = {index for index in range(6) if recording.path(tmp_path / "a.json", index).exists()}
    assert shown == {0, *missed}
    film = recording.failures_path(tmp_path / "a.json")
    for count in (2, 1, 2):  # also where all of them are recorded already
        assert evaluate(settings(tmp_path, videos=1, failures=count)) == before
        assert video.read_mp4(film)[0].shape[1] == count * (recording.CELL + 2 * recording.BORDER)


def test_points_that_take_longer_than_they_may_are_refused(tmp_path: Path):
    with pytest.raises(UserError, match=r"steps_per_point 8 is more than controller\.max_steps_per_point 6"):
        evaluate(replace(settings(tmp_path), controller=ControllerConfig(steps_per_point=8)))


def test_what_was_measured_before_outlives_an_extension(tmp_path: Path):
    known = {"val/position_error": 0.01}
    protocol.evaluate(Scripted(), CPU, "weights", settings(tmp_path), [], PointMass, known)
    more = evaluate(replace(settings(tmp_path), episodes=8))
    assert len(more.episodes) == 8 and more.measured["val/position_error"] == 0.01


def looks(count: int) -> list[Look]:
    image = torch.zeros(8, 8, 3, dtype=torch.uint8)
    return [
        Look(i, Observation(image, CAMERA, RobotState(torch.randn(3), torch.tensor(0.08))))
        for i in range(count)
    ]


def test_a_cpu_answers_one_at_a_time_so_that_chunks_do_not_depend_on_the_others():
    policy = Scripted()
    asked = looks(3)
    together = protocol.answer(policy, CPU, asked)
    assert policy.batches == [1, 1, 1]
    for look, chunk in zip(asked, together, strict=True):
        alone = protocol.answer(policy, CPU, [look])[0]
        assert all(torch.equal(a, b) for a, b in zip(alone, chunk, strict=True))


def test_another_device_answers_all_that_wait_in_one_batch():
    class OnMeta(Scripted):
        def act(self, observation: Observation) -> ActionChunk:
            assert observation.image.device.type == "meta"
            position = torch.zeros(len(observation.image), 3)
            opened = RobotState(position, torch.full((len(position),), 0.08))
            return super().act(Observation(torch.zeros(len(position), 8, 8, 3).byte(), CAMERA, opened))

    policy = OnMeta()
    assert len(protocol.answer(policy, torch.device("meta"), looks(3))) == 3
    assert protocol.answer(policy, torch.device("meta"), []) == []
    assert policy.batches == [3]


@pytest.mark.parametrize(
    ("change", "message"), [({"episodes": 0}, "at least 1"), ({"workers": -1}, "--workers -1")]
)
def test_an_evaluation_of_nothing_is_refused(tmp_path: Path, change: dict[str, int], message: str):
    with pytest.raises(UserError, match=message):
        evaluate(settings(tmp_path, **change))


def test_the_grid_shows_every_outcome_in_its_colour(tmp_path: Path):
    clip = [np.full((64, 64, 3), 90, np.uint8)] * 3
    names = ("PLACE", "GRASP", "MISS")
    for name in names:
        video.write_mp4(tmp_path / f"{name}.mp4", clip[: 1 + names.index(name)], 10, 24)
    recording.write_grid(tmp_path / "grid.mp4", [(tmp_path / f"{name}.mp4", name, "") for name in names])  # pyright: ignore
    images = video.read_mp4(tmp_path / "grid.mp4")
    assert len(images) == 3
    side = recording.CELL + 2 * recording.BORDER
    for index, name in enumerate(names):
        row, column = divmod(index, images[0].shape[1] // side)
        corner = images[0][row * side + side - 6, column * side + side // 2]
        assert np.abs(corner.astype(int) - recording.COLORS[name]).max() < 25
