"""LIBERO HDF5 files -> episodes with checked poses, gripper and camera."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import torch

from vidpara.cli import UserError
from vidpara.data import published
from vidpara.data.episode import Episode, OnError, Poses, labelled, once, readable
from vidpara.data.frames import parts
from vidpara.types import Camera, Float, UInt8

SUFFIXES = (".hdf5", ".h5")
READING = (OSError, KeyError, RuntimeError, AttributeError)
"""What h5py raises where a file is damaged."""
CONTROL_RATE = 20.0
"""Rows a second of LIBERO's files."""

GRIPPER_COMMAND = 6
"""Index of the gripper (-1 open, +1 close) in LIBERO's 7-vector action."""


@dataclass(frozen=True)
class RolloutFrames:
    """One demo's images. Files hold the renderer's buffer, whose first row is the bottom one."""

    file: Path
    demo: str
    camera: str

    def read(self, moments: Sequence[int]) -> UInt8[np.ndarray, "n h w 3"]:
        rows, back = np.unique(np.asarray(moments), return_inverse=True)
        with open_file(self.file) as file:
            images = file[f"data/{self.demo}/obs/{self.camera}_rgb"]
            together = rows[-1] - rows[0] < len(rows)  # h5py reads a list of rows one by one
            stored = images[rows[0] : rows[-1] + 1] if together else images[rows]
        return np.ascontiguousarray(stored[back, ::-1])

    def blocks(self, moments: Sequence[int], size: int) -> Iterator[UInt8[np.ndarray, "n h w 3"]]:
        return map(self.read, parts(moments, size))

    def fingerprint(self) -> str:
        stat = self.file.stat()
        return f"{self.file.name} {stat.st_size} {stat.st_mtime_ns} {self.camera}"


def read_episodes(
    path: Path,
    camera: str = "agentview",
    size: tuple[int, int] | None = None,
    on_error: OnError = "error",
    source: Path | None = None,
) -> list[Episode]:
    """All demonstrations of a file, in the order of their numbers, their images resized to `size` rows and columns.
    They are those of `source`, the file itself by default; of a folder their names begin with the file's.

    Row j of the observations is the moment after action j (LIBERO's pairing), so row j's gripper target is action j's.

    Raises:
        UserError: the file is missing, truncated or of another layout, the camera is unknown, or a pose is not finite.
    """
    names = demo_names(path)
    with open_file(path) as file:
        demos, task = file["data"], _task(file["data"], path)
        reads = (partial(_read, path, demos, name, camera, size, task) for name in names)
        return [replace(episode, source=source or path) for episode in readable(reads, on_error)]


def read_folder(
    folder: Path, camera: str, size: tuple[int, int] | None, on_error: OnError, source: Path
) -> list[Episode]:
    """All demonstrations of a folder's files, as LIBERO publishes a suite: a file a task. A file that cannot be read
    ends it, or is left out.
    """
    reads = (partial(read_episodes, file, camera, size, on_error, source) for file in files_in(folder))
    return [
        replace(episode, name=f"{stored(episode).file.name}/{episode.name}")
        for file in readable(reads, on_error)
        for episode in file
    ]


def files_in(folder: Path) -> list[Path]:
    """A folder's HDF5 files, by name; hidden ones are left alone."""
    found = (file for file in folder.iterdir() if file.suffix in SUFFIXES and file.is_file())
    return once(file for file in found if not file.name.startswith("."))


def is_stored(episode: Episode) -> bool:
    """Whether an episode was read from a LIBERO file."""
    return isinstance(episode.origin, RolloutFrames)


def stored(episode: Episode) -> RolloutFrames:
    """The LIBERO file and demo that an episode was read from."""
    frames = episode.origin
    assert isinstance(frames, RolloutFrames), f"{episode.name} is of no LIBERO file"
    return frames


def demo_names(path: Path) -> list[str]:
    """The demonstrations of a file, in the order of their numbers.

    Raises:
        UserError: the file is missing, truncated or of another layout.
    """
    with open_file(path) as file:
        try:
            data = file.get("data")
            names = list(map(str, data)) if isinstance(data, h5py.Group) else []
        except READING as error:
            raise UserError(
                f"{path} cannot be read ({error}); the file is damaged or was not closed"
            ) from error
    if not names:
        raise UserError(f"{path} holds no group 'data' with demonstrations; expected LIBERO's HDF5 layout")
    if strange := [name for name in names if not re.fullmatch(r"demo_\d+", name)]:
        raise UserError(
            f"{path} holds '{strange[0]}' in its group 'data'; expected demo_0, demo_1, ... alone"
        )
    return sorted(names, key=lambda name: int(name.rsplit("_", 1)[-1]))


def read_actions(episode: Episode) -> Float[np.ndarray, "T 7"]:
    """The OSC_POSE commands of a demo; row j led to the observations' row j."""
    place = stored(episode)
    with open_file(place.file) as file:
        return np.asarray(file[f"data/{place.demo}/actions"], np.float32)


def read_fingers(episode: Episode) -> Float[np.ndarray, "T 2"]:
    """The two finger positions (metres; open is +0.04, -0.04)."""
    place = stored(episode)
    with open_file(place.file) as file:
        return np.asarray(file[f"data/{place.demo}/obs/gripper_states"], np.float32)


def _task(data: h5py.Group, path: Path) -> str:
    """The file's instruction in words, or its name's words where it holds none: LIBERO names a file after its task."""
    try:
        words = json.loads(str(data.attrs.get("problem_info", "{}"))).get("language_instruction", "")
    except (ValueError, AttributeError):  # not JSON, or no mapping
        words = ""
    told = " ".join(map(str, words) if isinstance(words, list) else [str(words)]).strip('" ')
    return told or path.stem.removesuffix("_demo").replace("_", " ")


def _read(
    path: Path, demos: h5py.Group, name: str, camera: str, size: tuple[int, int] | None, task: str
) -> Episode:
    """One demonstration.

    Raises:
        UserError: something is missing, damaged, or of another kind.
    """
    where = f"{path}: {name}"
    try:
        return _read_demo(path, demos[name], name, camera, size, task)
    except (OSError, KeyError, RuntimeError) as error:
        raise UserError(f"{where} cannot be read ({error}); the file is damaged or was not closed") from error
    except (ValueError, TypeError, IndexError, AttributeError) as error:
        raise UserError(
            f"{where} holds something of another shape or type than LIBERO's ({error})"
        ) from error


def _read_demo(
    path: Path, demo: h5py.Group, name: str, camera: str, size: tuple[int, int] | None, task: str
) -> Episode:
    where = f"{path}: {name}"
    observations = demo.get("obs") if isinstance(demo, h5py.Group) else None
    if not isinstance(observations, h5py.Group):
        raise UserError(f"{where} has no group 'obs'; expected LIBERO's HDF5 layout")
    if f"{camera}_rgb" not in observations:
        known = sorted(key.removesuffix("_rgb") for key in map(str, observations) if key.endswith("_rgb"))
        raise UserError(f"{where} has no camera '{camera}'; it has {known}: set the camera (--data.camera)")
    images = observations[f"{camera}_rgb"]
    if not isinstance(images, h5py.Dataset):
        raise UserError(f"{where} has a group '{camera}_rgb'; expected LIBERO's images")
    if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8:
        raise UserError(
            f"{where} has images of shape {images.shape} and type {images.dtype}; expected frames x rows x columns x 3 "
            "of uint8"
        )
    frames, rows, columns, _ = images.shape
    position, rotation = _pose(observations, where)
    opening = torch.from_numpy(np.abs(observations["gripper_states"][:]).sum(-1)).float()
    gripper = torch.from_numpy((demo["actions"][:, GRIPPER_COMMAND] + 1) / 2).float()
    lens = _camera(demo, camera, rows, columns, where)
    frames_of = RolloutFrames(path, name, camera)
    poses = Poses(position, rotation, opening, gripper)
    times = np.arange(frames) / CONTROL_RATE
    return labelled(path, name, frames_of, times, lens, (rows, columns), size, poses, task)


def _pose(observations: h5py.Group, where: str) -> tuple[torch.Tensor, torch.Tensor]:
    """The grip site's positions (metres) and rotations; published files say the hand's."""
    if "site_pos" in observations and "site_ori" in observations:
        position, rotation = observations["site_pos"][:], observations["site_ori"][:].reshape(-1, 3, 3)
    elif "ee_pos" in observations and "ee_ori" in observations:
        position, rotation = observations["ee_pos"][:], published.site_rotation(observations["ee_ori"][:])
    else:
        raise UserError(f"{where} has neither obs/site_pos and site_ori nor LIBERO's obs/ee_pos and ee_ori")
    if position.shape[1:] != (3,):
        raise ValueError(f"positions of {position.shape[1:]} numbers")
    return torch.from_numpy(position).float(), torch.from_numpy(rotation).float()


def _camera(demo: h5py.Group, name: str, rows: int, columns: int, where: str) -> Camera:
    """The camera as the file says it, or as the demo's model does."""
    if f"camera/{name}" in demo:
        stored = demo[f"camera/{name}"]
        intrinsics, pose = (np.asarray(stored[key]) for key in ("intrinsics", "world_from_camera"))
        if intrinsics.shape != (3, 3) or pose.shape != (4, 4):
            raise ValueError(f"intrinsics of {intrinsics.shape} and a pose of {pose.shape} for a camera")
        return Camera(torch.from_numpy(intrinsics).float(), torch.from_numpy(pose).float())
    if "model_file" not in demo.attrs:
        raise UserError(
            f"{where} has neither camera/{name} nor LIBERO's model_file, which says where the camera is"
        )
    try:
        return published.camera_of(str(demo.attrs["model_file"]), name, rows, columns)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error


def open_file(path: Path) -> h5py.File:
    """The HDF5 file, to be read.

    Raises:
        UserError: it is missing or truncated.
    """
    if not path.is_file():
        raise UserError(
            f"rollout file {path} does not exist; give the path of one, or run stages/collect_rollouts.py"
        )
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise UserError(f"{path} is not a readable HDF5 file ({error}); it may be truncated") from error
