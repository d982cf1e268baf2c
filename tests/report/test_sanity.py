"""What is drawn and measured of data before training, for cameras that see the hand badly or not at all."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.data.rollout_files import FRAMES, SIZE, write
from vidpara.config import ClipConfig, HeadConfig
from vidpara.data.episode import Episode
from vidpara.data.rollouts import read_episodes
from vidpara.heads.pixel import PixelHead
from vidpara.report.sanity import LIFTED, frames, judge, round_trip
from vidpara.types import Workspace

TABLE = Workspace(
    (SIZE, SIZE), (-0.5, -0.5, 0.9), (0.5, 0.5, 1.3), ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
)
DOWN, UP, ALONG = np.diag([1.0, -1, -1]), np.eye(3), np.array([[0, 0, 1.0], [-1, 0, 0], [0, -1, 0]])


def seen(folder: Path, look: np.ndarray, place: tuple[float, float, float]) -> Episode:
    """A hand that moves along x at a height of 1 m, seen from `place`; black frames."""
    with h5py.File(write(folder / "rollouts.hdf5", demos=1), "a") as file:
        demo = file["data/demo_0"]
        demo["obs/agentview_rgb"][:] = 0
        demo["camera/agentview/world_from_camera"][:3, :3] = look
        demo["camera/agentview/world_from_camera"][:3, 3] = place
    return read_episodes(folder / "rollouts.hdf5")[0]


def head(bins: int) -> PixelHead:
    return PixelHead(32, 6, HeadConfig(height_bins=bins), TABLE)


def reds(episode: Episode, bins: int) -> int:
    drawn = frames(episode, head(bins), ClipConfig())
    return sum((picture == LIFTED).all(-1).any() for picture in drawn)


def test_a_camera_above_loses_nothing_but_rounding(tmp_path):
    episode = seen(tmp_path, DOWN, (0, 0, 2.0))
    error = round_trip([episode], head(8))
    assert error is not None and error.apart == 0 and judge(error, HeadConfig()).verdict == "ok"
    assert reds(episode, 8) == FRAMES


def test_a_camera_that_never_shows_the_hand_leaves_nothing_to_measure(tmp_path):
    episode = seen(tmp_path, UP, (0, 0, 2.0))
    assert not episode.in_view.any() and round_trip([episode], head(8)) is None
    assert judge(None, HeadConfig()).verdict == "left out"
    assert reds(episode, 8) == 0


@pytest.mark.parametrize(("camera_height", "drawn"), [(0.98, 0), (1.0, FRAMES)])
def test_what_a_camera_as_low_as_the_hand_does_not_fix_is_counted(tmp_path, camera_height, drawn):
    """The middle of the lowest of three bins is 0.967 m, below a camera that looks up to the hand at 1 m; one at 1 m
    looks along the plane of the recorded height.
    """
    episode = seen(tmp_path, ALONG, (-1.0, 0.0, camera_height))
    assert episode.in_view.all()
    assert round_trip([episode], head(3)) is None and reds(episode, 3) == drawn
    above = seen(tmp_path, DOWN, (0, 0, 2.0))
    error = round_trip([episode, above], head(3))
    assert error is not None and error.apart == FRAMES
    assert f"without {FRAMES} frames" in judge(error, HeadConfig()).found
