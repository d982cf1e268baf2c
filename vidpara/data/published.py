"""What LIBERO's published files do not say, and follows from what they do: the grip site's frame and the camera.

They store the hand body's orientation, which differs from the grip site's by a quarter turn, and in each demo's model
the cameras that are fixed in the world.
"""

from __future__ import annotations

import math
from xml.etree import ElementTree

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from vidpara.cli import UserError
from vidpara.types import Camera, Float

HAND_FROM_SITE = np.array([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
"""The Panda's grip site in its hand body, as robosuite models it."""
OPENCV_FROM_MUJOCO = np.diag([1.0, -1.0, -1.0])
"""MuJoCo's cameras look along -z with y up."""
READ = {"name", "mode", "pos", "quat", "fovy"}
"""What is read of a camera in a model."""
FOVY = 45.0
"""MuJoCo's own vertical field of view, in degrees, for cameras that do not give theirs."""


def site_rotation(hand: Float[np.ndarray, "T 3"]) -> Float[np.ndarray, "T 3 3"]:
    """Rotation of the grip site from the hand's, as rotation vectors (radians)."""
    return Rotation.from_rotvec(hand).as_matrix() @ HAND_FROM_SITE


def camera_of(model: str, name: str, rows: int, columns: int) -> Camera:
    """A camera of a MuJoCo model (its XML), for images of `rows` and `columns`.

    Raises:
        UserError: the model is not XML, or has no such camera that stays where it is.
    """
    try:
        root = ElementTree.fromstring(model)
    except ElementTree.ParseError as error:
        raise UserError(f"model_file is not a MuJoCo model ({error})") from error
    world = root.find("worldbody")
    cameras = [] if world is None else world.findall("camera")  # those of bodies move with them
    fixed = {camera.get("name", ""): camera for camera in cameras}
    if name not in fixed:
        raise UserError(
            f"the model has no camera '{name}' that stays in place; those that do: {sorted(fixed)}"
        )
    strange = sorted(set(fixed[name].keys()) - READ)
    if strange or root.find("default//camera") is not None:
        raise UserError(
            f"the model says where camera '{name}' is by {strange or 'a default class'}; only {sorted(READ)} are read: "
            "write its parameters into the file, as camera/NAME/intrinsics and world_from_camera"
        )
    place = np.array(fixed[name].get("pos", "0 0 0").split(), float)
    turn = np.array(fixed[name].get("quat", "1 0 0 0").split(), float)
    angle = float(fixed[name].get("fovy", FOVY))
    if not 0 < angle < 180:
        raise UserError(
            f"the model's camera '{name}' has a fovy of {angle:g} degrees; give one between 0 and 180"
        )
    focal = rows / 2 / math.tan(math.radians(angle) / 2)
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_quat(turn, scalar_first=True).as_matrix() @ OPENCV_FROM_MUJOCO
    pose[:3, 3] = place
    intrinsics = [[focal, 0.0, columns / 2], [0.0, focal, rows / 2], [0.0, 0.0, 1.0]]
    return Camera(torch.tensor(intrinsics), torch.from_numpy(pose).float())
