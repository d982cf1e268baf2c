"""Checks of data, each on data broken on purpose.

The pictures are drawn here: a patterned square that moves with the recorded point over a patterned table. What is
tested is the judgement, and drawn pictures can be broken in every way; that our real rollouts pass is tested in the
pipeline.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from data.rollout_files import SIZE, write

from vidpara.config import DataConfig
from vidpara.data import verify_motion
from vidpara.data.finding import Finding
from vidpara.data.frames import Frames, parts
from vidpara.data.rollouts import read_episodes
from vidpara.data.sources import read_sources
from vidpara.data.verify import verify
from vidpara.data.verify_pictures import Decoded, decode, pictures

FOCAL, HEIGHT, FRAMES = 40.0, 1.0, 48


def drawn(count: int = FRAMES) -> np.ndarray:
    """Upright frames in which a square of 7 pixels goes where the recorded points are seen."""
    rng = np.random.default_rng(0)
    table, square = rng.integers(90, 130, (SIZE, SIZE, 3)), rng.integers(0, 256, (7, 7, 3))
    frames = np.repeat(table[None], count, 0).astype(np.uint8)
    for frame, (x, y, _) in zip(frames, points(count), strict=True):
        column, row = int(SIZE / 2 + FOCAL * x), int(SIZE / 2 - FOCAL * y)
        frame[row - 3 : row + 4, column - 3 : column + 4] = square
    return frames


def points(count: int = FRAMES) -> np.ndarray:
    """A path on no line of symmetry of the image; the camera is a metre above it, looking down."""
    along = np.linspace(0, 1, count)
    return np.stack([0.5 * along - 0.25, 0.1 + 0.2 * along**2, 0 * along + HEIGHT], 1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = write(tmp_path / "rollouts.hdf5", demos=8, frames=FRAMES)
    with h5py.File(file, "a") as data:
        for demo in data["data"].values():
            demo["obs/agentview_rgb"][:] = drawn()[:, ::-1]
            demo["obs/site_pos"][:] = points()
            demo["obs/gripper_states"][FRAMES // 2 :] = [0.002, -0.002]
    return file


def change(path: Path, name: str, new: Callable[[np.ndarray], np.ndarray]) -> None:
    with h5py.File(path, "a") as data:
        for demo in data["data"].values():
            demo[name][()] = new(demo[name][()])


def found(path: Path) -> dict[str, Finding]:
    return {finding.check: finding for finding in verify(read_episodes(path))}


def test_nothing_is_found_in_right_data(path):
    findings = found(path)
    assert {finding.verdict for finding in findings.values()} == {"ok"}
    checks = [
        "frames",
        "pictures",
        "instructions",
        "poses",
        "gripper",
        "view",
        "orientation",
        "clock",
        "camera",
    ]
    assert list(findings) == checks
    assert findings["instructions"].found == f"1 of them: 'rollouts' ({len(read_episodes(path))})"


FLIPS = {
    "upside down": lambda x: x[:, ::-1],
    "mirrored left to right": lambda x: x[:, :, ::-1],
    "turned by 180 degrees": lambda x: x[:, ::-1, ::-1],
    "turned by 90 degrees to the right": lambda x: np.rot90(x, 1, (1, 2)),
    "turned by 90 degrees to the left": lambda x: np.rot90(x, -1, (1, 2)),
    "transposed": lambda x: x.transpose(0, 2, 1, 3),
    "transposed along the other diagonal": lambda x: np.rot90(x.transpose(0, 2, 1, 3), 2, (1, 2)),
}


@pytest.mark.parametrize("name", FLIPS)
def test_pictures_the_wrong_way_round_are_named_by_what_rights_them(path, name):
    change(path, "obs/agentview_rgb", lambda stored: FLIPS[name](stored[:, ::-1])[:, ::-1])
    finding = found(path)["orientation"]
    assert finding.verdict == "error" and finding.fix == f"store the pictures {name}"


@pytest.mark.parametrize("name", FLIPS)
def test_oblong_pictures_the_wrong_way_round_are_named_too(path, name):
    """The camera's columns are of the picture as it was taken, of more columns than rows."""
    with h5py.File(path, "a") as data:
        for demo in data["data"].values():
            upright = demo["obs/agentview_rgb"][()][:, ::-1][:, 2:-6]
            del demo["obs/agentview_rgb"]
            demo["obs/agentview_rgb"] = FLIPS[name](upright)[:, ::-1]
            demo["camera/agentview/intrinsics"][1, 2] -= 2
    finding = found(path)["orientation"]
    assert finding.verdict == "error" and finding.fix == f"store the pictures {name}"


@pytest.mark.parametrize(
    ("name", "new", "check", "verdict", "words"),
    [
        ("actions", lambda a: a * np.array([1, 1, 1, 1, 1, 1, -1]), "gripper", "error", "sign is inverted"),
        ("actions", lambda a: 0 * a - 1, "gripper", "warning", "only ever opened"),
        ("obs/gripper_states", lambda g: 0 * g + 0.02, "gripper", "warning", "do the fingers follow"),
        ("obs/gripper_states", lambda g: 1000 * g, "gripper", "error", "are the openings metres"),
        ("actions", lambda a: (a + 1) / 2, "gripper", "error", "0.50 for open and 1.00 for closed"),
        ("obs/site_pos", lambda p: p * np.array([10, 10, 1]), "poses", "error", "are they metres"),
        ("obs/site_pos", lambda p: p[[0] * FRAMES], "poses", "error", "never moves"),
        ("obs/site_pos", lambda p: p + 0.04 * (np.arange(FRAMES) == 7)[:, None] * [1, 0, 0], "poses", "error",
         "4 cm off its path: demo_0 at frame 7"),
        ("obs/site_ori", lambda r: np.where(np.arange(FRAMES)[:, None, None] < 9, r, r * [1, -1, -1]), "poses", "error",
         "3.1 radians in one frame, 63 a second: demo_0 at frame 9"),
        ("obs/agentview_rgb", lambda x: 0 * x + 90, "pictures", "error", "8 of 8 episodes show pictures of one colour"),
        ("obs/agentview_rgb", lambda x: x[[0] * FRAMES], "pictures", "error", "one picture all along, first demo_0"),
        ("obs/agentview_rgb", lambda x: x[np.arange(FRAMES).clip(0, 20)], "pictures", "error",
         "stands still while the end effector crosses"),
        ("obs/agentview_rgb", lambda x: x[np.arange(FRAMES) - 6], "clock", "error", "with those of 6 frames earlier"),
        ("obs/site_pos", lambda p: p + np.array([0.25, 0, 0]), "view", "warning", "out_of_view mask"),
        ("obs/site_pos", lambda p: p + np.array([5.0, 0, 0]), "view", "error", "another camera or image size"),
        ("obs/site_pos", lambda p: p - np.array([0, 0.3, 0]), "camera", "error", "check the camera's intrinsics"),
        ("camera/agentview/intrinsics", lambda k: k * [[2], [2], [1]], "camera", "error", "of which image size"),
    ],
)  # fmt: skip
def test_broken_data_are_found_and_a_fix_is_named(path, name, new, check, verdict, words):
    change(path, name, new)
    finding = found(path)[check]
    assert finding.verdict == verdict and words in finding.fix + finding.found


def test_a_jump_is_named_with_its_frame(path):
    def jump(position: np.ndarray) -> np.ndarray:
        position[7:] += [0.2, 0, 0]
        return position

    change(path, "obs/site_pos", jump)
    finding = found(path)["poses"]
    assert finding.verdict == "error" and "demo_0 at frame 7" in finding.found


def test_every_second_picture_repeated_is_a_camera_that_is_slower_than_the_poses(path):
    episode = read_episodes(path)[0]
    quick = replace(episode, pixel=3 * episode.pixel)  # more than a pixel a frame
    repeated = np.arange(FRAMES) % 2 == 1
    finding = pictures([Decoded(quick, repeated, plain=False)])
    assert finding.verdict == "warning" and "slower than the poses" in finding.fix
    assert pictures([Decoded(quick, repeated & False, plain=False)]).verdict == "ok"
    assert (
        pictures([Decoded(episode, repeated, plain=False)]).verdict == "ok"
    )  # too slow for a picture to change


@pytest.mark.parametrize("name", ["upside down", "mirrored left to right"])
def test_the_pictures_of_a_slow_arm_are_judged_too(tmp_path, name):
    """A third as fast: in three frames it moves by less than a pixel."""
    slow = write(tmp_path / "slow.hdf5", demos=8, frames=3 * FRAMES)
    with h5py.File(slow, "a") as data:
        for demo in data["data"].values():
            demo["obs/agentview_rgb"][:] = FLIPS[name](drawn(3 * FRAMES))[:, ::-1]
            demo["obs/site_pos"][:] = points(3 * FRAMES)
    finding = found(slow)["orientation"]
    assert finding.verdict == "error" and finding.fix == f"store the pictures {name}"


def test_where_the_hand_soon_leaves_the_picture_what_there_is_is_judged(path):
    """It is in view for a short while only: no distance has pairs enough."""
    films = [verify_motion.film(episode) for episode in read_episodes(path)]
    left = [film._replace(seen=np.arange(len(film.pixel)) < 4) for film in films]
    assert verify_motion._lag(left) < max(verify_motion.LAGS)


def test_fast_cameras_are_looked_at_about_twenty_times_a_second(path):
    episode = read_episodes(path)[0]
    fast = replace(episode, times=0.4 * episode.times)  # 50 Hz
    assert verify_motion.film(episode).stride == 1
    film = verify_motion.film(fast)
    assert film.stride == 2 and len(film.images) == FRAMES / 2
    np.testing.assert_array_equal(film.images, verify_motion.film(episode).images[::2])


def test_what_cannot_be_judged_is_left_out_and_an_end_effector_out_of_sight_is_said_to_be(path):
    change(path, "obs/site_pos", lambda p: p + np.array([9.0, 0, 0]))
    findings = found(path)
    assert findings["orientation"].verdict == findings["clock"].verdict == "left out"
    assert findings["camera"].found == "the end effector is projected outside all pictures"


def test_fingers_that_were_not_measured_are_no_reason_for_a_warning(path):
    change(path, "obs/gripper_states", lambda gap: 0 * gap)
    finding = found(path)["gripper"]
    assert finding.verdict == "ok" and "was not measured" in finding.found


def test_a_few_pictures_call_nothing_wrong(path):
    change(path, "obs/site_pos", lambda p: p - np.array([0, 0.3, 0]))
    few = {finding.check: finding for finding in verify(read_episodes(path)[:2])}
    assert few["camera"].verdict == "warning" and "too few to be sure" in few["camera"].found


def test_where_the_pictures_do_not_fit_the_likeliest_orientation_is_named():
    """Two episodes of 64 rows, which are too few to be sure of anything."""
    episodes = [
        replace(episode, frames=UpsideDown(episode.frames))
        for episode in read_sources(DataConfig(rollouts=(Path(__file__).parent / "samples/v2.1",)))
    ]
    findings = {finding.check: finding for finding in verify(episodes)}
    assert findings["orientation"].verdict == findings["camera"].verdict == "warning"
    assert findings["orientation"].fix == "look at them: store the pictures upside down?"


@dataclass(frozen=True)
class UpsideDown:
    frames: Frames

    @property
    def file(self) -> Path:
        return self.frames.file

    def read(self, moments: Sequence[int]) -> np.ndarray:
        return self.frames.read(moments)[:, ::-1].copy()

    def blocks(self, moments: Sequence[int], size: int) -> Iterator[np.ndarray]:
        return map(self.read, parts(moments, size))

    def fingerprint(self) -> str:
        return self.frames.fingerprint()


def test_long_and_large_videos_are_looked_at_in_parts(tmp_path):
    """Never more than some frames of an episode in memory, and pictures reduced."""
    asked = []

    @dataclass(frozen=True)
    class Counted:
        file: Path = Path("long.mp4")

        def read(self, moments):
            asked.append(len(moments))
            return np.zeros((len(moments), 256, 320, 3), np.uint8)

        def blocks(self, moments, size):
            return map(self.read, parts(moments, size))

        def fingerprint(self):
            return ""

    file = write(tmp_path / "long.hdf5", demos=1, frames=700)
    episode = replace(read_episodes(file)[0], frames=Counted(), stored_size=(256, 320), image_size=(256, 320))
    assert verify_motion.film(episode).images.shape == (300, 128, 160)
    decode([episode])
    assert max(asked) <= 16 and sum(asked) == 1000


def test_a_fit_that_is_surely_none_does_not_make_a_good_one_doubtful():
    good = verify_motion.Fit(0.12, 0.01, 99)
    assert good.beats(verify_motion.Fit(-0.3, 0.06, 99), 1.5)
    assert not good.beats(verify_motion.Fit(-0.01, 0.06, 99), 1.5)  # it may be as good


def test_as_many_episodes_are_looked_at_as_there_may_be(path):
    """Eight of nine, not every second one."""
    episodes = [*read_episodes(path), *read_episodes(path)[:1]]
    assert next(iter(verify(episodes))).found.startswith("8 of 8 episodes decoded")
    episodes[4] = replace(episodes[4], stored_size=(1, 1))  # the one that is not among them
    assert next(iter(verify(episodes))).verdict == "ok"
    of_all = next(iter(verify(episodes, count=0)))
    assert (
        of_all.verdict == "error" and "8 of 9 episodes decoded" in of_all.found and "demo_4" in of_all.found
    )


@pytest.mark.parametrize(("frames", "words"), [(6, "6 frames earlier"), (-6, "6 frames later")])
def test_poses_of_another_moment_are_named_with_the_delay(path, frames, words):
    change(path, "obs/site_pos", lambda p: p[np.clip(np.arange(FRAMES) + frames, 0, FRAMES - 1)])
    finding = found(path)["clock"]
    assert finding.verdict == "error" and words in finding.found
