"""A LeRobotDataset's columns -> poses and cameras, as the configuration names them."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from scipy.spatial.transform import Rotation

from vidpara.cli import UserError, read_yaml
from vidpara.config import LeRobotConfig
from vidpara.data.episode import Poses
from vidpara.data.parquet import values
from vidpara.data.published import HAND_FROM_SITE
from vidpara.data.source_file import Source
from vidpara.geometry.camera import resize_camera
from vidpara.types import Camera, Float

CAMERA_COLUMNS = ("camera.{}.intrinsics", "camera.{}.world_from_camera")
STILL = 1e-4
"""Largest change of a number of a camera's parameters over an episode, relative to its size, that is rounding."""


NONE = "none"
"""Instead of a column's name: it was not recorded."""
DIGITS = {"axis_angle": 3, "euler_xyz": 3, "quaternion_xyzw": 4, "quaternion_wxyz": 4, "matrix": 9}


def columns_of(camera: str, config: LeRobotConfig) -> list[str]:
    """All columns that poses and camera may be read from."""
    of_camera = [name.replace("{}", camera) for name in (*CAMERA_COLUMNS, config.extrinsics) if name]
    labels = [config.position, config.rotation, config.opening, config.gripper]
    return [*of_camera, *(name for name in labels if name != NONE)]


def poses_of(where: str, table: pa.Table, known: Sequence[str], source: Source) -> Poses:
    """What the robot does in an episode; `table` holds its rows, `known` are the dataset's columns.

    Raises:
        UserError: a column is missing, too short, or holds no rotation, or one value is to be two things.
    """
    config = source.lerobot
    _once_each(where, source)

    def named(setting: str) -> str:
        return source.setting(f"lerobot.{setting}")

    def of(setting: str, places: Sequence[int]) -> Float[np.ndarray, "T n"]:
        name = getattr(config, setting)
        if name not in table.column_names:
            raise UserError(
                f"{where} has no column '{name}'; the dataset has {list(known)}: set {named(setting)}"
            )
        try:
            found = values(table, name)
        except ValueError as error:
            raise UserError(
                f"{where}: column '{name}' is not numbers ({error}); set {named(setting)}"
            ) from error
        if max(places) >= found.shape[1] or min(places) < 0:
            raise UserError(
                f"{where}: column '{name}' holds {found.shape[1]} values a row, values {list(places)} are to be the "
                f"{setting}; set {named(setting)} or {named(f'{setting}_at')}"
            )
        return found[:, list(places)].astype(np.float64)

    position = of("position", range(config.position_at, config.position_at + 3))
    opening, (none, one) = np.zeros(len(table)), config.opening_range
    if config.gripper_open == config.gripper_closed:
        raise UserError(
            f"{where}: {named('gripper_open')} and {named('gripper_closed')} are both {config.gripper_open}; give the "
            "command's values for an open and a closed gripper"
        )
    if config.opening != NONE and not config.opening_at:
        raise UserError(
            f"{where}: {named('opening_at')} names no value of column '{config.opening}'; give their places, or "
            f"{NONE} for {named('opening')}"
        )
    if config.opening != NONE:
        opening = none + (one - none) * np.abs(of("opening", config.opening_at)).sum(1)
    command = of("gripper", [config.gripper_at])[:, 0]
    gripper = (command - config.gripper_open) / (config.gripper_closed - config.gripper_open)
    if config.gripper_leads:
        gripper = np.concatenate([gripper[:1], gripper[:-1]])
    rotation = np.tile(np.eye(3), (len(table), 1, 1))
    try:
        if config.rotation != NONE:
            last = config.rotation_at + DIGITS[config.rotation_as]
            rotation = _matrices(of("rotation", range(config.rotation_at, last)), config.rotation_as)
            rotation = rotation @ HAND_FROM_SITE if config.rotation_of == "hand" else rotation
    except ValueError as error:
        raise UserError(
            f"{where}: column '{config.rotation}' holds no rotation as {config.rotation_as} ({error}); set "
            f"{named('rotation_as')} or {named('rotation_at')}"
        ) from error
    tensors = (torch.from_numpy(x).float() for x in (position, rotation, opening, gripper))
    return Poses(*tensors, has_rotation=config.rotation != NONE)


def _once_each(where: str, source: Source) -> None:
    """No value is read as two things, as when a quaternion takes the place of the defaults' three angles.

    Raises:
        UserError: one is.
    """
    config = source.lerobot
    places = {
        "position": range(config.position_at, config.position_at + 3),
        "rotation": range(config.rotation_at, config.rotation_at + DIGITS[config.rotation_as]),
        "opening": config.opening_at,
    }
    of = {name: {(getattr(config, name), at) for at in of} for name, of in places.items()}
    of = {name: values for name, values in of.items() if getattr(config, name) != NONE}
    for one, other in itertools.combinations(of, 2):
        if both := sorted(of[one] & of[other]):
            column, at = both[0]
            raise UserError(
                f"{where}: value {at} of '{column}' is to be part of the {one} and of the {other}; set "
                f"{source.setting(f'lerobot.{other}_at')} (or {source.setting(f'lerobot.{other}')} {NONE})"
            )


def camera_of(
    where: str,
    table: pa.Table,
    facts: dict[str, Any],
    stored_size: tuple[int, int],
    source: Source,
) -> Camera | None:
    """The episode's camera of that name: from its rows, its metadata or the YAML file, the first that has it.

    With `data.lerobot.extrinsics` the pose is in a column and the intrinsics in the file; a pose of zeros only stands
    for a camera that was not calibrated.

    Raises:
        UserError: it moves during the episode, or its parameters are of another shape.
    """
    extrinsics = source.lerobot.extrinsics.replace("{}", source.camera)
    if extrinsics:
        return _camera_of_extrinsics(where, table, extrinsics, stored_size, source)
    names = [name.format(source.camera) for name in CAMERA_COLUMNS]
    if all(name in table.column_names for name in names):
        return _camera(where, *(_constant(where, table, name, source) for name in names))
    if all(facts.get(name) is not None for name in names):
        return _camera(where, *(np.array(facts[name], dtype=np.float64) for name in names))
    return _camera_in_file(source.cameras, source, stored_size) if source.cameras else None


def _camera_of_extrinsics(
    where: str, table: pa.Table, column: str, stored_size: tuple[int, int], source: Source
) -> Camera | None:
    if column not in table.column_names:
        raise UserError(f"{where} has no column '{column}'; set {source.setting('lerobot.extrinsics')}")
    found = _constant(where, table, column, source)
    if found.size != 6:
        raise UserError(
            f"{where}: '{column}' holds {found.size} values, x, y, z and three Euler angles are expected; set "
            f"{source.setting('lerobot.extrinsics')}"
        )
    if not found.any() or source.cameras is None:
        return None
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = Rotation.from_euler("xyz", found[3:]).as_matrix(), found[:3]
    return _camera_in_file(source.cameras, source, stored_size, pose)


def _camera_in_file(
    file: Path, source: Source, stored_size: tuple[int, int], pose: Float[np.ndarray, "4 4"] | None = None
) -> Camera:
    """The camera that the file describes; only its intrinsics where the `pose` is known."""
    name, cameras = source.camera, _read_once(file, file.stat().st_mtime_ns if file.is_file() else 0)
    found = cameras.get(name)
    needed = ["intrinsics"] if pose is not None else ["intrinsics", "world_from_camera"]
    if not isinstance(found, dict) or not set(needed) <= set(found):
        raise UserError(
            f"{file} has no {' and '.join(needed)} of camera '{name}'; it has {sorted(map(str, cameras))}: "
            f"add them or set {source.setting('camera')}"
        )
    if unknown := sorted(map(str, found.keys() - {"intrinsics", "world_from_camera", "image_size"})):
        raise UserError(
            f"{file}: camera '{name}' has an unknown key '{unknown[0]}'; it takes intrinsics, world_from_camera and "
            "image_size"
        )
    try:
        stored = np.array(found["world_from_camera"], float) if pose is None else pose
        camera = _camera(str(file), np.array(found["intrinsics"], float), stored)
    except (ValueError, TypeError) as error:
        raise UserError(
            f"{file}: camera '{name}' is not written in numbers ({error}); see docs/data.md"
        ) from error
    match found.get("image_size", stored_size):
        case [int(rows), int(columns)] if rows > 0 and columns > 0:
            return resize_camera(camera, (rows, columns), stored_size)
        case other:
            raise UserError(
                f"{file}: camera '{name}' has image_size {other}; give rows and columns: [480, 640]"
            )


@functools.cache
def _read_once(file: Path, changed: int) -> dict[str, Any]:
    """A file of cameras as it was `changed`, which is the same for a hundred thousand episodes."""
    return read_yaml(file)


def _constant(where: str, table: pa.Table, name: str, source: Source) -> Float[np.ndarray, "n"]:
    found = values(table, name).astype(np.float64)
    if (np.ptp(found, axis=0) > STILL * np.abs(found).max().clip(1)).any():
        raise UserError(
            f"{where}: '{name}' changes during the episode; cameras have to stand still: choose one with "
            f"{source.setting('camera')}"
        )
    return found[0]


def _camera(where: str, intrinsics: np.ndarray, world_from_camera: np.ndarray) -> Camera:
    if intrinsics.size != 9 or world_from_camera.size != 16:
        raise UserError(
            f"{where}: the camera has {intrinsics.size} intrinsics and {world_from_camera.size} values of "
            "world_from_camera; 9 (3 x 3) and 16 (4 x 4) are expected, row by row"
        )
    return Camera(
        torch.from_numpy(intrinsics.reshape(3, 3)).float(),
        torch.from_numpy(world_from_camera.reshape(4, 4)).float(),
    )


def _matrices(turned: Float[np.ndarray, "T n"], kind: str) -> Float[np.ndarray, "T 3 3"]:
    if not np.isfinite(turned).all():
        return np.full((len(turned), 3, 3), np.nan)  # named, with its frame, where all poses are checked
    if kind.startswith("quaternion") and np.abs(np.linalg.norm(turned, axis=1) - 1).max() > 0.01:
        raise ValueError("rows are not of length one")
    match kind:
        case "axis_angle":
            return Rotation.from_rotvec(turned).as_matrix()
        case "euler_xyz":
            return Rotation.from_euler("xyz", turned).as_matrix()
        case "quaternion_xyzw":
            return Rotation.from_quat(turned).as_matrix()
        case "quaternion_wxyz":
            return Rotation.from_quat(turned[:, [1, 2, 3, 0]]).as_matrix()
    matrices = turned.reshape(-1, 3, 3)
    if (
        np.abs(matrices @ matrices.transpose(0, 2, 1) - np.eye(3)).max() > 0.01
        or np.linalg.det(matrices).min() < 0
    ):
        raise ValueError("rows are not orthonormal, or mirrored")
    return matrices
