"""The table from above: a marked point is found at its place, and the file says which part of the table it shows.

Frames are made here, black with one white dot, because where that dot has to appear is known.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.data.rollout_files import write
from vidpara.data.frames import parts
from vidpara.data.rollouts import read_episodes
from vidpara.geometry.camera import project
from vidpara.report import tabletop

SURFACE = 0.98
"""Of the table under the file's path at a height of one metre."""
DOT = (0.04, -0.07)


@dataclass(frozen=True)
class Dotted:
    """Frames with a dot at this pixel."""

    u: float
    v: float
    file: Path

    def read(self, moments: Sequence[int]) -> np.ndarray:
        images = np.zeros((len(moments), 32, 32, 3), np.uint8)
        images[:, int(self.v), int(self.u)] = 255
        return images

    def blocks(self, moments: Sequence[int], size: int) -> Iterator[np.ndarray]:
        return map(self.read, parts(moments, size))

    def fingerprint(self) -> str:
        return ""


def test_a_marked_point_is_where_it_is_and_the_file_says_so(tmp_path: Path):
    episodes = read_episodes(write(tmp_path / "rollouts.hdf5"))
    u, v = project(torch.tensor([*DOT, SURFACE]), episodes[0].camera).tolist()
    found = tabletop.tabletop([replace(each, frames=Dotted(u, v, tmp_path)) for each in episodes])
    (tmp_path / "table.png").write_bytes(tabletop.encoded(found._replace(key="a rollout's")))
    seen = tabletop.read(tmp_path / "table.png")
    assert seen and np.array_equal(seen.image, found.image) and seen.low == pytest.approx(found.low, abs=1e-4)
    assert seen.key == "a rollout's"
    row, column = np.argwhere(seen.image[..., 0] == seen.image[..., 0].max()).mean(0)
    place = (seen.low[0] + row * tabletop.STEP, seen.low[1] + column * tabletop.STEP)
    assert place == pytest.approx(DOT, abs=0.013)  # half a pixel of the camera is 1.3 cm on the table
    assert tabletop.read(tmp_path / "absent.png") is None


def test_what_the_camera_does_not_see_is_transparent(tmp_path: Path):
    (episode, *_) = read_episodes(write(tmp_path / "rollouts.hdf5"))
    aside = replace(episode, position=episode.position + torch.tensor([0.0, 0.35, 0.0]))
    alpha = tabletop.tabletop([replace(aside, frames=Dotted(16, 16, tmp_path))]).image[..., 3]
    middle = alpha[len(alpha) // 2]
    assert middle[0] and not alpha[:, -1].any()  # it sees 41 cm to each side, of 15 and 85 that are drawn


def test_frames_of_other_cameras_are_left_out(tmp_path: Path):
    one, *others = read_episodes(write(tmp_path / "rollouts.hdf5"))
    one = replace(one, frames=Dotted(16, 16, tmp_path))
    moved = one.camera._replace(world_from_camera=one.camera.world_from_camera + 0.01)
    elsewhere = [replace(each, camera=moved, frames=Dotted(2, 2, tmp_path)) for each in others]
    alone = tabletop.tabletop([one]).image
    assert np.array_equal(tabletop.tabletop([one, *elsewhere]).image, alone)
    kept = [replace(each, camera=one.camera) for each in elsewhere]
    assert not np.array_equal(tabletop.tabletop([one, *kept]).image, alone)
