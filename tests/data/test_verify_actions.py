"""Commands against motions, right and broken on purpose; the arm is one that follows its commands with a lag."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from vidpara.data.verify_actions import Motion, Turning, actions, rotations

ROWS, RATE = 120, 20.0


def arm(command: np.ndarray) -> np.ndarray:
    """Positions after each command (1 is 5 cm): every row the velocity comes half as near to what is asked for."""
    velocity, position, path = np.zeros(3), np.array([0.1, -0.2, 1.0]), []
    for wanted in command * 0.0125:
        velocity = velocity + 0.5 * (wanted - velocity)
        position = position + velocity
        path.append(position)
    return np.array(path)


def motions(change: Callable[[np.ndarray], np.ndarray] = lambda a: a) -> list[Motion]:
    """Two episodes of soft random commands; what is written down of them may be changed."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(2):
        noise = rng.normal(size=(ROWS + 15, 3))
        command = np.stack([np.convolve(axis, np.hanning(16) / 4, "valid") for axis in noise.T], 1)
        found.append(Motion(change(command), arm(command)))
    return found


def test_commands_that_are_followed_with_a_lag_are_right():
    finding = actions(motions(), RATE)
    assert finding.verdict == "ok" and "follows the commands by 1 row:" in finding.found


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a: a[:, [1, 0, 2]], "x goes with y, y goes with x, z goes with z"),
        (lambda a: a * [1, 1, -1], "x goes with x, y goes with y, z goes with -z"),
        (lambda a: a[:, [2, 1, 0]] * [-1, 1, 1], "x goes with z, y goes with y, z goes with -x"),
        (lambda a: np.roll(a, 4, 0), "the motion is 3 rows (0.15 s) before its command"),
    ],
)
def test_axes_signs_and_rows_that_are_wrong_are_named(change, words):
    finding = actions(motions(change), RATE)
    assert finding.verdict == "error" and words in finding.found and finding.fix


def test_an_arm_that_is_late_is_a_warning_and_what_is_late_depends_on_the_rate():
    late = motions(lambda a: np.roll(a, -5, 0))
    finding = actions(late, RATE)
    assert finding.verdict == "warning" and "the motion is 6 rows (0.3 s) behind its command" in finding.found
    assert actions(late, 50.0).verdict == "ok"  # 0.12 s


@pytest.mark.parametrize("rows", [2, 8, 10, 11])
def test_recordings_that_were_broken_off_do_not_end_the_check(rows):
    """Shorter than the half second by which a motion may follow."""
    short = [Motion(command[:rows], position[:rows]) for command, position in motions()]
    assert actions([*motions(), *short], RATE).verdict == "ok"
    assert actions(short, RATE).found


def test_positions_to_go_to_on_a_circle_are_no_turned_axes():
    """Where the motion of x is the position of y."""
    turn = 2 * np.pi * np.arange(2 * ROWS) / ROWS
    circle = np.stack([np.cos(turn), np.sin(turn), 0.05 * np.sin(3 * turn)], 1)
    finding = actions([Motion(np.roll(circle, -1, 0), circle)], RATE)
    assert finding.verdict == "ok" and "positions to go to" in finding.found


def test_positions_to_go_to_are_told_from_differences():
    found = [Motion(np.roll(motion.position, -1, 0), motion.position) for motion in motions()]
    finding = actions(found, RATE)
    assert finding.verdict == "ok" and "positions to go to" in finding.found
    others = [
        Motion(np.random.default_rng(1).normal(size=each.command.shape), each.position) for each in found
    ]
    assert actions(others, RATE).verdict == "warning"


@pytest.mark.parametrize("units", [0.05, 1000.0])
def test_units_do_not_matter(units):
    assert actions(motions(lambda a: a * units), RATE).verdict == "ok"


def test_commands_of_another_kind_are_a_warning():
    rng = np.random.default_rng(1)
    finding = actions(motions(lambda a: rng.normal(size=a.shape)), RATE)
    assert finding.verdict == "warning" and "Joint commands" in finding.fix
    assert actions(motions(lambda a: 0 * a), RATE).verdict == "warning"


def test_an_axis_along_which_nothing_moves_is_not_judged():
    still = [motion._replace(position=motion.position * [1, 1, 0]) for motion in motions()]
    finding = actions(still, RATE)
    assert finding.verdict == "ok" and "z" not in finding.found.split("correlation")[1]
    assert actions([m._replace(position=0 * m.position) for m in still], RATE).verdict == "left out"


def turnings(change: Callable[[Rotation], Rotation] = lambda r: r) -> list[Turning]:
    """A hand that points down and turns as it is told, half of it at once; its rotations may be read otherwise."""
    found = []
    for motion in motions():
        turn, hand, path = np.zeros(3), Rotation.from_euler("xyz", [np.pi, 0.1, 0.3]), []
        for wanted in motion.command * 0.05:
            turn = turn + 0.5 * (wanted - turn)
            hand = Rotation.from_rotvec(turn) * hand
            path.append(hand.as_quat())
        found.append(Turning(motion.command, change(Rotation.from_quat(path)).as_matrix()))
    return found


def test_rotations_that_follow_their_commands_are_right_of_whichever_body_of_the_hand():
    assert rotations(turnings(), RATE).verdict == "ok"
    assert rotations(turnings(lambda r: r * Rotation.from_euler("z", 90, degrees=True)), RATE).verdict == "ok"


@pytest.mark.parametrize(
    "change",
    [
        lambda r: r.inv(),
        lambda r: Rotation.from_rotvec(r.as_euler("xyz")),
        lambda r: Rotation.from_euler("xyz", r.as_rotvec()),
        lambda r: Rotation.from_euler("XYZ", r.as_euler("xyz")),
        lambda r: Rotation.from_quat(r.as_quat(), scalar_first=True),
    ],
    ids=[
        "the other way round",
        "Euler angles as a vector",
        "a vector as Euler angles",
        "other axes",
        "w first",
    ],
)
def test_rotations_that_are_read_as_something_else_are_warned_of(change):
    finding = rotations(turnings(change), RATE)
    assert finding.verdict == "warning" and "lerobot.rotation_as" in finding.fix


def test_a_hand_that_hardly_turns_is_not_judged_and_one_that_turns_untold_is_warned_of():
    untold = [each._replace(command=0 * each.command) for each in turnings()]
    finding = rotations(untold, RATE)
    assert finding.verdict == "warning" and "x and y and z, and the command" in finding.found
    still = [each._replace(rotation=each.rotation[:1].repeat(ROWS, 0)) for each in turnings()]
    assert rotations(still, RATE).verdict == "left out"
