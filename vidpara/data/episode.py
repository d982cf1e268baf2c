"""One episode, whatever it was read from: where its frames come from, and what is known of them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

import numpy as np
import torch

from vidpara.cli import UserError
from vidpara.data.frames import Chosen, Frames
from vidpara.geometry.camera import inside, project, resize_camera, resize_images
from vidpara.types import Bool, Camera, Float, UInt8

OnError = Literal["error", "skip"] | list[UserError]
"""What becomes of what cannot be read: it ends the reading, is named and left out, or left out and kept in a list."""
Read = TypeVar("Read")
ORTHONORMAL = 0.02
"""How far the product of a rotation with its transpose may be from one."""
BEYOND = 0.05
"""How far a gripper's target may lie outside 0 to 1."""
OPEN = 0.9
"""Share of its final opening from which the gripper counts as open."""


class Poses(NamedTuple):
    """What the robot does in an episode, in the camera's world: metres; gripper 0 open, 1 closed."""

    position: Float[torch.Tensor, "T 3"]
    rotation: Float[torch.Tensor, "T 3 3"]
    opening: Float[torch.Tensor, "T"]
    gripper: Float[torch.Tensor, "T"]
    has_rotation: bool = True
    """Whether it was recorded; the rotations stand for nothing if not."""


@dataclass(frozen=True)
class Episode:
    """One episode, T moments long. Images stay on disk; everything else is in memory.

    Images have `image_size` rows and columns, which `camera` and `pixel` belong to, whatever size they are stored in.
    The gripper's target of moment j is what it was commanded on the way there. An episode that is not `labelled` is
    video and nothing else: its camera and poses are placeholders, and no moment is in view.
    """

    source: Path
    """What `data.rollouts` names: a file or a folder."""
    name: str
    """Its own within the source."""
    frames: Frames
    times: Float[np.ndarray, "T"]
    """Seconds, on a clock of its own."""
    camera: Camera
    image_size: tuple[int, int]
    stored_size: tuple[int, int]
    position: Float[torch.Tensor, "T 3"]
    rotation: Float[torch.Tensor, "T 3 3"]
    opening: Float[torch.Tensor, "T"]
    gripper: Float[torch.Tensor, "T"]
    pixel: Float[torch.Tensor, "T 2"]
    in_view: Bool[torch.Tensor, "T"]
    labelled: bool = True
    has_rotation: bool = True
    task: str = ""
    """What the robot was told to do; empty where nothing says."""

    def __len__(self) -> int:
        return len(self.position)

    @property
    def origin(self) -> Frames:
        """All frames of the file, of which the episode may have chosen some."""
        return self.frames.frames if isinstance(self.frames, Chosen) else self.frames

    @property
    def rate(self) -> float:
        """Frames a second, on average."""
        return (len(self) - 1) / float(self.times[-1] - self.times[0]) if len(self) > 1 else float("nan")

    @property
    def release(self) -> int:
        """The moment at which the gripper is open again after its last closing; the demo's length if it never is."""
        closing = self.gripper > 0.5
        if not closing.any() or closing[-1]:
            return len(self)
        after = int(closing.nonzero()[-1]) + 1
        opened = self.opening[after:] >= OPEN * self.opening[after:].max()
        return after + int(opened.nonzero()[0])

    @property
    def grasp(self) -> Float[torch.Tensor, "2"]:
        """World x, y (metres) of the end effector where the gripper, open before, begins to close.

        Of a hand that was closed from the start and never opens it is where it starts, of one that never closes where
        it ends.
        """
        closed = self.gripper > 0.5
        closing = (closed[1:] & ~closed[:-1]).nonzero()
        if len(closing):
            return self.position[int(closing[0]) + 1, :2]
        return self.position[0 if closed.any() else -1, :2]

    def images(self, moments: Sequence[int] | None = None) -> UInt8[np.ndarray, "n h w 3"]:
        """The frames of `moments` (all by default), upright, of `image_size`.

        Raises:
            UserError: they cannot be read, or are not of the size that the metadata say.
        """
        with self._read_error():
            stored = self.frames.read(range(len(self)) if moments is None else moments)
        return self._resized(stored)

    def blocks(
        self, size: int, moments: Sequence[int] | None = None
    ) -> Iterator[UInt8[np.ndarray, "n h w 3"]]:
        """The same of `moments` that ascend, `size` frames at a time, for one way through the file and little memory.

        Raises:
            UserError: as `images`.
        """
        with self._read_error():
            for stored in self.frames.blocks(range(len(self)) if moments is None else moments, size):
                yield self._resized(stored)

    @contextmanager
    def _read_error(self) -> Iterator[None]:
        try:
            yield
        except (OSError, KeyError, RuntimeError, ValueError) as error:  # of h5py, too
            raise UserError(
                f"{self.source}: the frames of {self.name} cannot be read ({error}); copy the file anew"
            ) from error

    def _resized(self, stored: UInt8[np.ndarray, "n h w 3"]) -> UInt8[np.ndarray, "n h2 w2 3"]:
        if (found := stored.shape[1:3]) != self.stored_size:
            raise UserError(
                f"{self.source}: the frames of {self.name} have {found[0]} x {found[1]} pixels, the metadata say "
                f"{self.stored_size[0]} x {self.stored_size[1]}; copy or export the data anew"
            )
        return resize_images(torch.from_numpy(stored), self.image_size).numpy()


def readable(results: Iterable[Callable[[], Read]], on_error: OnError) -> Iterator[Read]:
    """What every call gives; those that cannot read end it, or are left out: named and counted, or kept.

    Raises:
        UserError: a call cannot read, and `on_error` is `error`.
    """
    count = skipped = 0
    for result in results:
        count += 1
        try:
            found = result()
        except UserError as error:
            if on_error == "error":
                raise
            if isinstance(on_error, list):
                on_error.append(error)
                continue
            skipped += 1
            print(f"skipped: {error}", file=sys.stderr)
        else:
            yield found
    if skipped:
        print(f"{skipped} of {count} were skipped (data.on_error skip)", file=sys.stderr)


def labelled(
    source: Path,
    name: str,
    frames: Frames,
    times: Float[np.ndarray, "T"],
    camera: Camera,
    stored_size: tuple[int, int],
    size: tuple[int, int] | None,
    poses: Poses,
    task: str = "",
) -> Episode:
    """An episode with actions. `camera` belongs to images of `stored_size`, which are resized to `size`.

    Raises:
        UserError: there is no frame, lengths differ, a pose, the gripper or the camera is not finite, or rotations are
            none.
    """
    where = f"{source}: {name}"
    if not len(times):
        raise UserError(f"{where} has no frames; remove it")
    for label, value in {
        "end-effector position": poses.position,
        "end-effector rotation": poses.rotation,
        "gripper opening": poses.opening,
        "gripper command": poses.gripper,
    }.items():
        if len(value) != len(times):
            raise UserError(
                f"{where} has {len(times)} frames, but {len(value)} values of {label}; export it anew"
            )
        if (
            frame := _first_wrong(value.flatten(1).isfinite().all(1) if value.ndim > 1 else value.isfinite())
        ) is not None:
            raise UserError(f"{where} has a non-finite {label} at frame {frame}")
    turned = (poses.rotation @ poses.rotation.mT - torch.eye(3)).abs().amax((1, 2)) < ORTHONORMAL
    if (frame := _first_wrong(turned & (torch.linalg.det(poses.rotation) > 0))) is not None:
        raise UserError(
            f"{where} has an end-effector rotation at frame {frame} that is none: check its columns"
        )
    check_camera(camera, where)
    if float(poses.gripper.min()) < -BEYOND or float(poses.gripper.max()) > 1 + BEYOND:
        low, high = float(poses.gripper.min()), float(poses.gripper.max())
        raise UserError(
            f"{where} has gripper commands from {low:.2f} to {high:.2f}, where 0 is open and 1 closed; LIBERO's column "
            "goes from -1 to 1, of LeRobotDatasets set lerobot.gripper_open and gripper_closed"
        )
    poses = poses._replace(gripper=poses.gripper.clamp(0, 1))
    size = size or stored_size
    lens = resize_camera(camera, stored_size, size)
    pixel = project(poses.position, Camera(lens.intrinsics[None], camera.world_from_camera[None]))
    in_view = inside(pixel, *size)
    seen = (pixel.nan_to_num(), in_view)
    parts = (source, name, frames, times, lens, size, stored_size, *poses[:4], *seen)
    return Episode(*parts, has_rotation=poses.has_rotation, task=task)


def check_camera(camera: Camera, where: str) -> None:
    """
    Raises:
        UserError: its parameters are not finite, or are no pinhole's intrinsics and no pose.
    """
    (fx, _, _), (below, fy, _), last = camera.intrinsics.tolist()
    rotation = camera.world_from_camera[:3, :3]
    turned = (rotation @ rotation.mT - torch.eye(3)).abs().max() < ORTHONORMAL and torch.linalg.det(
        rotation
    ) > 0
    if not all(part.isfinite().all() for part in camera):
        found = "parameters that are not finite"
    elif fx <= 0 or fy <= 0 or below != 0 or last != [0, 0, 1]:
        found = f"intrinsics {camera.intrinsics.tolist()}; expected [[fx, 0, cx], [0, fy, cy], [0, 0, 1]]"
    elif not turned or camera.world_from_camera[3].tolist() != [0, 0, 0, 1]:
        found = f"a pose {camera.world_from_camera.tolist()}; expected a rotation, a place and [0, 0, 0, 1]"
    else:
        return
    raise UserError(f"{where} has a camera with {found}")


def once(files: Iterable[Path]) -> list[Path]:
    """Files by name, each once, however many links lead to it."""
    return sorted({file.resolve(): file for file in sorted(files, reverse=True)}.values())


def _first_wrong(right: Bool[torch.Tensor, "T"]) -> int | None:
    return None if right.all() else int(right.logical_not().nonzero()[0])


def video_only(
    source: Path,
    name: str,
    frames: Frames,
    times: Float[np.ndarray, "T"],
    stored_size: tuple[int, int],
    size: tuple[int, int] | None,
    task: str = "",
) -> Episode:
    """An episode without actions: it serves stage one, and the video loss of stage two.

    Its end effector rests at the world's origin, a metre in front of its camera, where every formula is finite.
    """
    length = len(times)
    nowhere = Poses(
        torch.zeros(length, 3), torch.eye(3).repeat(length, 1, 1), torch.zeros(length), torch.zeros(length)
    )
    rows, columns = size = size or stored_size
    middle = torch.tensor([columns / 2, rows / 2])
    camera = Camera(torch.eye(3), torch.eye(4))
    camera.intrinsics[:2, 2], camera.world_from_camera[2, 3] = middle, -1.0
    pixel, in_view = middle.repeat(length, 1), torch.zeros(length, dtype=torch.bool)
    parts = (source, name, frames, times, camera, size, stored_size, *nowhere[:4], pixel, in_view)
    return Episode(*parts, labelled=False, has_rotation=False, task=task)


def at_rate(episode: Episode, fps: float) -> Episode:
    """The episode on a clock of `fps` moments a second: what was recorded nearest to each, from the first on."""
    since = episode.times - episode.times[0]
    early = 1e-2  # of a moment: float32 times, as LeRobot's, are off by a part of it
    wanted = np.arange(int(since[-1] * fps + early) + 1) / fps
    middles = (since[1:] + since[:-1]) / 2
    moments = np.searchsorted(middles, wanted - early / fps)
    if np.array_equal(moments, np.arange(len(episode))):
        return episode
    kept = ("position", "rotation", "opening", "gripper", "pixel", "in_view")
    values = {name: getattr(episode, name)[torch.from_numpy(moments)] for name in kept}
    return replace(episode, frames=Chosen(episode.frames, moments), times=wanted, **values)
