"""A YAML file is a command line in a file: what wins, what is refused, and in which words."""

from __future__ import annotations

import dataclasses
import errno
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import tyro

from vidpara import cli, config
from vidpara.cli import UserError
from vidpara.config import CollectConfig, EvaluateConfig, TrainPolicyConfig, TrainVideoConfig
from vidpara.config.bounds import BOUNDS
from vidpara.config.groups import HOW, RETIRED
from vidpara.evaluation.episode_log import EXTENT
from vidpara.experiment.keys import BY_CONTENT
from vidpara.training.checkpoint import ADJUSTABLE

HELD = {
    field.default_factory
    for schema in vars(config).values()
    if dataclasses.is_dataclass(schema)
    for field in dataclasses.fields(schema)
}
STAGE_SCHEMAS = [
    schema for schema in vars(config).values() if dataclasses.is_dataclass(schema) and schema not in HELD
]

Write = Callable[[str, str], str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(name: str, text: str) -> str:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return str(path)

    return write


def refusal(schema: type, argv: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that a stage prints for `argv`; it must exit with 2 before it runs."""

    def must_not_run(config: object, argv: list[str]) -> None:
        raise AssertionError("ran on bad input")

    with pytest.raises(SystemExit) as stop:
        cli.main(schema, must_not_run, argv)
    captured = capsys.readouterr()
    assert stop.value.code == 2
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    return captured.err


def test_every_stage_is_found_by_the_tests():
    assert {CollectConfig, TrainVideoConfig, TrainPolicyConfig, EvaluateConfig} <= set(STAGE_SCHEMAS)


@pytest.mark.parametrize("schema", STAGE_SCHEMAS)
def test_no_arguments_give_the_defaults(schema: type):
    assert cli.load(schema, []) == schema()


@pytest.mark.parametrize("schema", STAGE_SCHEMAS)
def test_load_inverts_dump(schema: type, write: Write):
    assert cli.load(schema, [write("resolved.yaml", cli.dump(schema()))]) == schema()


def test_load_inverts_dump_for_awkward_values(write: Write):
    awkward = TrainPolicyConfig(
        run=Path("runs/with space"),
        video_run=Path("runs/video"),
        data=config.DataConfig(rollouts=(), cache=None),
        unet=config.UNetConfig(channels=(8,), attention=(True, False)),
        policy=config.PolicyConfig(taps=(), stop_gradient=True, sigma=float("inf")),
        diffusion=config.DiffusionConfig(log_sigma_mean=-1e-12),
        loss=config.LossConfig(rotation=1e-6),
    )
    assert cli.load(TrainPolicyConfig, [write("resolved.yaml", cli.dump(awkward))]) == awkward


def test_flags_win_over_files_and_later_files_over_earlier_ones(write: Write):
    first = write("first.yaml", "episodes: 1\nmax_steps: 1\nseed: 1\n")
    second = write("second.yaml", "max_steps: 2\nseed: 2\n")
    loaded = cli.load(EvaluateConfig, [first, second, "--seed", "3"])
    assert (loaded.episodes, loaded.max_steps, loaded.seed) == (1, 2, 3)


def test_a_file_wins_over_what_it_includes_relative_to_itself(write: Write):
    write("shared/base.yaml", "episodes: 1\nscene: {task: 1, image_size: 64}\n")
    path = write("experiments/one.yaml", "include: ../shared/base.yaml\nscene: {task: 2}\n")
    loaded = cli.load(EvaluateConfig, [path])
    assert (loaded.episodes, loaded.scene.task, loaded.scene.image_size) == (1, 2, 64)


def test_later_includes_win_over_earlier_ones(write: Write):
    write("a.yaml", "episodes: 1\nseed: 1\n")
    write("b.yaml", "seed: 2\n")
    loaded = cli.load(EvaluateConfig, [write("c.yaml", "include: [a.yaml, b.yaml]\n")])
    assert (loaded.episodes, loaded.seed) == (1, 2)


def test_a_tuple_is_replaced_as_a_whole(write: Write):
    path = write("a.yaml", "unet: {channels: [1, 2, 3, 4]}\n")
    assert cli.load(TrainVideoConfig, [path, "--unet.channels", "5"]).unet.channels == (5,)


def test_null_clears_an_optional_value(write: Write):
    first, second = write("a.yaml", "video_run: runs/video\n"), write("b.yaml", "video_run: null\n")
    assert cli.load(TrainPolicyConfig, [first, second]).video_run is None


def test_hyphens_and_equals_signs_are_accepted_in_flags():
    assert cli.load(EvaluateConfig, ["--scene.image-size=64"]).scene.image_size == 64


@pytest.mark.parametrize("word", ["true", "True"])
def test_booleans_are_spelled_as_in_yaml_or_as_in_python(word: str):
    assert cli.load(EvaluateConfig, ["--held_out", word, "--cuda_graph=False"]).held_out


def test_an_empty_file_changes_nothing(write: Write):
    assert cli.load(EvaluateConfig, [write("empty.yaml", "# nothing yet\n")]) == EvaluateConfig()


def test_an_overlay_may_hold_settings_of_other_stages(write: Write):
    overlay = write("pocket.yaml", "policy: {head: {width: 8}}\ntrainer: {steps: 7}\n")
    loaded = cli.load(TrainVideoConfig, [write("stage_one.yaml", "run: runs/one\n"), overlay])
    assert loaded.trainer.steps == 7


def test_the_first_file_must_fit_the_stage(write: Write, capsys: pytest.CaptureFixture[str]):
    path = write("policy.yaml", "policy: {sigma: 1.0}\n")
    assert "unknown key 'policy.sigma'" in refusal(TrainVideoConfig, [path], capsys)


@pytest.mark.parametrize("position", ["first", "overlay"])
def test_an_unknown_key_names_the_file_and_the_nearest_key(
    position: str, write: Write, capsys: pytest.CaptureFixture[str]
):
    path = write("typo.yaml", "trainer: {step: 3}\n")
    before = [] if position == "first" else [write("good.yaml", "")]
    line = refusal(TrainVideoConfig, [*before, path], capsys)
    assert path in line
    assert "unknown key 'trainer.step'; did you mean 'trainer.steps'?" in line


def test_an_unknown_flag_names_the_nearest_one(capsys: pytest.CaptureFixture[str]):
    line = refusal(TrainVideoConfig, ["--trainer.step", "3"], capsys)
    assert line == "error: unknown flag '--trainer.step'; did you mean '--trainer.steps'?\n"


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--episodes", "many"], ["--episodes", "'many'"]),
        (["--episodes"], ["--episodes", "Expected 1"]),
        (["--scene.render", "slow"], ["--scene.render", "'slow'", "'faithful'"]),
        (["--scene.x_range", "1"], ["--scene.x_range", "Expected 2"]),
        (["--episodes", "3", "4"], ["4"]),
        (["missing.yaml"], ["missing.yaml", "does not exist"]),
    ],
)
def test_bad_arguments_are_refused_in_one_line(
    argv: list[str], words: list[str], capsys: pytest.CaptureFixture[str]
):
    line = refusal(EvaluateConfig, argv, capsys)
    assert not [word for word in words if word not in line], line


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("episodes: [\n", "not valid YAML"),
        ("- 1\n- 2\n", "expected a mapping"),
        ("episodes: many\n", "'many'"),
        ("scene: clean\n", "unknown key 'scene'"),
        ("include: absent.yaml\n", "absent.yaml does not exist"),
        ("include: bad.yaml\n", "includes it again"),
    ],
)
def test_bad_files_are_refused_in_one_line(
    text: str, words: str, write: Write, capsys: pytest.CaptureFixture[str]
):
    assert words in refusal(EvaluateConfig, [write("bad.yaml", text)], capsys)


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_a_refusal_reads_the_same_in_any_terminal(encoding: str):
    command = [
        sys.executable,
        "-c",
        "from vidpara import cli, config; cli.main(config.EvaluateConfig, print)",
    ]
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run([*command, "--seed", "x"], env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert (
        done.stderr
        == "error: Error parsing --seed: invalid literal for int() with base 10: 'x'; see --help\n"
    )


def test_help_goes_to_stdout_and_succeeds(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as stop:
        cli.main(EvaluateConfig, lambda config, argv: None, ["--help"])
    assert stop.value.code == 0
    assert "--controller.execute" in capsys.readouterr().out


def raising(error: BaseException) -> Callable[[EvaluateConfig, list[str]], None]:
    def run(config: EvaluateConfig, argv: list[str]) -> None:
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (cli.UserError("two\nlines"), "error: two lines"),
        (FileNotFoundError(errno.ENOENT, "No such file", "a.hdf5"), "error: No such file: a.hdf5"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "error: the disk is full"),
        (RuntimeError("write failed: No space left on device (28)"), "error: the disk is full"),
    ],
)
def test_faults_of_the_users_machine_are_one_line(
    error: Exception, line: str, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit) as stop:
        cli.main(EvaluateConfig, raising(error), [])
    assert stop.value.code == 2
    printed = capsys.readouterr().err
    assert printed.startswith(line)
    assert printed.count("\n") == 1


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["a.yaml", "--jobss", "2"], "error: unknown flag '--jobss'; did you mean '--jobs'?\n"),
        (["a.yaml", "--jobs", "two"], "error: Error parsing --jobs: invalid literal"),
        ([], "error: Missing from"),
    ],
)
def test_the_arguments_of_a_function_are_refused_in_one_line(
    argv: list[str], message: str, capsys: pytest.CaptureFixture[str]
):
    def command(file: tyro.conf.Positional[Path], jobs: int = 1, wait: bool = True) -> None:
        raise AssertionError("it must not run")

    with pytest.raises(SystemExit) as ended:
        cli.call(command, argv)
    said = capsys.readouterr().err
    assert ended.value.code == 2 and said.startswith(message) and said.count("\n") == 1


def test_the_arguments_of_a_function_reach_it():
    given = []

    def command(file: tyro.conf.Positional[Path], jobs: int = 1, wait: bool = True) -> None:
        given.append((file, jobs, wait))

    cli.call(command, ["a.yaml", "--no-wait", "--jobs", "2"])
    assert given == [(Path("a.yaml"), 2, False)]


def test_faults_of_ours_keep_their_traceback():
    with pytest.raises(ValueError, match="a bug"):
        cli.main(EvaluateConfig, raising(ValueError("a bug")), [])


def test_an_interrupt_exits_with_130():
    with pytest.raises(SystemExit) as stop:
        cli.main(EvaluateConfig, raising(KeyboardInterrupt()), [])
    assert stop.value.code == 130


def test_the_stage_sees_the_command_line_as_given(write: Write):
    seen: list[list[str]] = []
    argv = [write("a.yaml", "episodes: 1\n"), "--seed", "2"]
    cli.main(EvaluateConfig, lambda config, argv: seen.append(argv), argv)
    assert seen == [argv]


def test_a_reader_that_has_had_enough_is_no_error():
    """`reproduce ... --dry_run | head -1`: the pipe is closed while there is more to say."""
    program = (
        "import sys\nfrom vidpara.cli import reported\n"
        "with reported():\n    for _ in range(100_000):\n        print('a line')\n    sys.stdout.flush()\n"
    )
    command = f"{shlex.quote(sys.executable)} -c {shlex.quote(program)} | head -1"
    ended = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, text=True, check=False
    )
    assert (ended.stdout, ended.stderr, ended.returncode) == ("a line\n", "", 0)


def test_another_pipe_that_breaks_is_no_silent_success():
    program = (
        "import os\nfrom vidpara.cli import reported\nread, write = os.pipe()\nos.close(read)\n"
        "with reported():\n    os.write(write, b'x')\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ended.returncode == 1 and "BrokenPipeError" in ended.stderr


@pytest.mark.parametrize(
    ("schema", "flag", "expected"),
    [
        (TrainPolicyConfig, "--data.clip.stride 0", "--data.clip.stride 0: give at least 1"),
        (TrainPolicyConfig, "--policy.head.grid 0 32", "--policy.head.grid 0 32: give at least 1"),
        (TrainPolicyConfig, "--policy.action_fraction -1", "--policy.action_fraction -1.0: give 0 to 1"),
        (TrainPolicyConfig, "--trainer.steps -5", "--trainer.steps -5: give at least 1"),
        (TrainPolicyConfig, "--optimizer.lr -1", "--optimizer.lr -1.0: give at least 0"),
        (TrainPolicyConfig, "--optimizer.betas 0.9 1", "--optimizer.betas 0.9 1.0: give 0 to 0.999999"),
        (TrainPolicyConfig, "--loss.decay 1", "--loss.decay 1.0: give 0 to 0.999999"),
        (TrainPolicyConfig, "--trainer.seed -1", "--trainer.seed -1: give at least 0"),
        (EvaluateConfig, "--seed -1", "--seed -1: give at least 0"),
        (TrainPolicyConfig, "--policy.sigma 0", "--policy.sigma 0.0: give at least 0.002"),
        (EvaluateConfig, "--controller.max_steps_per_point 0", "steps_per_point 0: give at least 1"),
        (EvaluateConfig, "--scene.view_grid 0 8", "--scene.view_grid 0 8: give at least 1"),
    ],
)
def test_numbers_that_nothing_can_be_done_with_are_refused(schema: type, flag: str, expected: str):
    with pytest.raises(UserError, match=re.escape(expected)):
        cli.load(schema, flag.split())


def test_every_bound_is_that_of_a_setting_and_holds_for_its_default():
    assert BOUNDS.keys() <= known_settings()
    for schema in STAGE_SCHEMAS:
        cli.load(schema, [])


UNBOUNDED = {
    "vit.levels", "policy.taps", "data.validation_demos", "episodes", "denoising_steps", "policy.denoising_steps",
    "plan",  # what they may be depends on more, and is said where that is known
    "data.lerobot.opening_range", "data.lerobot.gripper_open", "data.lerobot.gripper_closed", "scene.x_range",
    "scene.y_range", "scene.target_xy", "scene.azimuths",  # places and angles
    "diffusion.log_sigma_mean", "diffusion.condition_noise_mean",  # logarithms
    "diffusion.fps", "diffusion.motion_bucket",  # numbers that SVD was trained with
}  # fmt: skip


def test_every_number_has_bounds_or_needs_none():
    numbers = {
        key
        for schema in STAGE_SCHEMAS
        for key, value in cli.flatten(dataclasses.asdict(schema())).items()
        for one in (value if isinstance(value, tuple) else (value,))
        if isinstance(one, int | float) and not isinstance(one, bool)
    }
    of_check = {key for key in numbers if key.startswith("head.")}  # check_data's own, read by no network
    assert numbers - BOUNDS.keys() - UNBOUNDED - of_check == set()


def test_settings_that_do_not_count_are_settings():
    assert known_settings() >= HOW | ADJUSTABLE | EXTENT | BY_CONTENT


def test_a_file_of_an_earlier_version_may_hold_a_retired_setting(tmp_path):
    assert not RETIRED & known_settings()
    older = tmp_path / "config.yaml"
    older.write_text("policy:\n  head: {loss: factored, width: 48}\n")
    assert cli.load(TrainPolicyConfig, [str(older)]).policy.head.width == 48


def known_settings() -> set[str]:
    return set().union(*(cli.flatten(dataclasses.asdict(schema())) for schema in STAGE_SCHEMAS))
