"""LIBERO HDF5 files -> episodes with checked poses, gripper and camera."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import torch

from vidpara.cli import UserError
from vidpara.geometry.camera import inside, project, resize_camera, resize_images
from vidpara.types import Bool, Camera, Float, UInt8

GRIPPER_COMMAND = 6
"""Index of the gripper (-1 open, +1 close) in LIBERO's 7-vector action."""

OPEN = 0.9
"""Share of its final opening from which the gripper counts as open."""


@dataclass(frozen=True)
class Episode:
    """One demonstration, T moments long. Images stay on disk; everything else is in memory.

    Images have `image_size` rows and columns, which `camera` and `pixel` belong to, whatever size they are stored in.
    Row j of the observations is the moment after action j (LIBERO's pairing), so row j's gripper target is action j's.
    """

    file: Path
    name: str
    camera_name: str
    camera: Camera
    image_size: tuple[int, int]
    stored_size: tuple[int, int]
    position: Float[torch.Tensor, "T 3"]
    rotation: Float[torch.Tensor, "T 3 3"]
    opening: Float[torch.Tensor, "T"]
    gripper: Float[torch.Tensor, "T"]
    pixel: Float[torch.Tensor, "T 2"]
    in_view: Bool[torch.Tensor, "T"]

    def __len__(self) -> int:
        return len(self.position)

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
        """World x, y (metres) of the end effector where the gripper begins to close, or at the end if it never does."""
        closing = (self.gripper > 0.5).nonzero()
        return self.position[int(closing[0]) if len(closing) else -1, :2]

    def images(self) -> UInt8[np.ndarray, "T h w 3"]:
        """The frames, upright: files hold the renderer's buffer, whose first row is the bottom one."""
        with _open(self.file) as file:
            stored = np.ascontiguousarray(file[f"data/{self.name}/obs/{self.camera_name}_rgb"][:][:, ::-1])
        return resize_images(torch.from_numpy(stored), self.image_size).numpy()


def read_episodes(
    path: Path, camera: str = "agentview", size: tuple[int, int] | None = None
) -> list[Episode]:
    """All demonstrations of a file, in the order of their numbers, their images resized to `size` rows and columns.

    Raises:
        UserError: the file is missing, truncated or of another layout, the camera is unknown, or a pose is not finite.
    """
    with _open(path) as file:
        if "data" not in file or not len(file["data"]):
            raise UserError(
                f"{path} holds no group 'data' with demonstrations; expected LIBERO's HDF5 layout"
            )
        names = sorted(file["data"], key=lambda name: int(name.rsplit("_", 1)[-1]))
        return [_read(path, file["data"][name], name, camera, size) for name in names]


def _read(path: Path, demo: h5py.Group, name: str, camera: str, size: tuple[int, int] | None) -> Episode:
    where = f"{path}: {name}"
    observations = demo.get("obs")
    if not isinstance(observations, h5py.Group):
        raise UserError(f"{where} has no group 'obs'; expected LIBERO's HDF5 layout")
    if f"{camera}_rgb" not in observations:
        known = sorted(key.removesuffix("_rgb") for key in map(str, observations) if key.endswith("_rgb"))
        raise UserError(f"{where} has no camera '{camera}'; it has {known}: set --data.camera")
    if missing := [key for key in ("obs/site_pos", "obs/site_ori", f"camera/{camera}") if key not in demo]:
        raise UserError(
            f"{where} has no {missing[0]}; collect with stages/collect_rollouts.py, which stores it"
        )
    try:
        position = torch.from_numpy(observations["site_pos"][:]).float()
        rotation = torch.from_numpy(observations["site_ori"][:]).float().reshape(-1, 3, 3)
        opening = torch.from_numpy(np.abs(observations["gripper_states"][:]).sum(-1)).float()
        gripper = torch.from_numpy((demo["actions"][:, GRIPPER_COMMAND] + 1) / 2).float()
        intrinsics = torch.from_numpy(demo[f"camera/{camera}/intrinsics"][:]).float()
        world_from_camera = torch.from_numpy(demo[f"camera/{camera}/world_from_camera"][:]).float()
    except (OSError, KeyError, RuntimeError) as error:
        raise UserError(f"{where} cannot be read ({error}); the file is damaged or was not closed") from error
    frames, rows, columns, _ = observations[f"{camera}_rgb"].shape
    lengths = {"images": frames, "poses": len(position), "actions": len(gripper)}
    if len(set(lengths.values())) > 1:
        raise UserError(f"{where} has unequal lengths {lengths}")
    for label, value in {"end-effector position": position, "end-effector rotation": rotation}.items():
        finite = value.flatten(1).isfinite().all(1)
        if not finite.all():
            raise UserError(
                f"{where} has a non-finite {label} at frame {int(finite.logical_not().nonzero()[0])}"
            )
    size = size or (rows, columns)
    lens = resize_camera(Camera(intrinsics, world_from_camera), (rows, columns), size)
    pixel = project(position, Camera(lens.intrinsics[None], world_from_camera[None]))
    in_view = inside(pixel, *size)
    return Episode(
        path,
        name,
        camera,
        lens,
        size,
        (rows, columns),
        position,
        rotation,
        opening,
        gripper,
        pixel.nan_to_num(),
        in_view,
    )


def _open(path: Path) -> h5py.File:
    if not path.is_file():
        raise UserError(
            f"rollout file {path} does not exist; set --data.rollouts or run stages/collect_rollouts.py"
        )
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise UserError(f"{path} is not a readable HDF5 file ({error}); it may be truncated") from error
