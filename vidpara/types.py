"""The values that cross module boundaries. Every shape in the project is written with this legend.

b batch · t clip frames · a action steps · c channels · h w image or grid rows and columns · k bins · n tokens of d
numbers

Conventions: images are upright; pixel (u, v) has u to the right, v down and pixel centres at +0.5; transforms are
named `a_from_b`; cameras look along +z (OpenCV); heights are world z in metres; gripper is 0 open, 1 closed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from numpy.typing import ArrayLike
from torch import Tensor


class Camera(NamedTuple):
    """A pinhole camera: `intrinsics` in pixels of the image it belongs to, pose in metres."""

    intrinsics: Float[Tensor, "*b 3 3"]
    world_from_camera: Float[Tensor, "*b 4 4"]


class RobotState(NamedTuple):
    """The robot's own state when the policy looks: end-effector point (metres, world) and gripper opening (metres)."""

    position: Float[Tensor, "*b 3"]
    opening: Float[Tensor, "*b"]


class Actions(NamedTuple):
    """Where the end effector is at each action step, and what it does there.

    `valid` is False where the clip has no label (the end effector is out of view, or the demo is over),
    `has_rotation` where the rotation was not recorded.
    """

    pixel: Float[Tensor, "*b a 2"]
    height: Float[Tensor, "*b a"]
    position: Float[Tensor, "*b a 3"]
    rotation: Float[Tensor, "*b a 3 3"]
    gripper: Float[Tensor, "*b a"]
    valid: Bool[Tensor, "*b a"]
    has_rotation: Bool[Tensor, "*b a"]


class Batch(NamedTuple):
    """What both stages train on. Frame 0 is now; action step i is the moment of clip frame i + 1.

    `latents` are the autoencoder's, of unit variance; for an image policy pixels in [-1, 1], of frame 0 alone.
    `context` is what the UNet's cross-attention reads: the image encoder's tokens of the present frame. `state` is the
    robot's now.
    """

    latents: Float[Tensor, "b t c h w"]
    context: Float[Tensor, "b n d"]
    camera: Camera
    state: RobotState
    actions: Actions


class Part(NamedTuple):
    """How much of a micro-batch is of the first share of the whole batch, that of all processes and micro-steps of an
    update: its first `count` samples, where a micro-batch has `mean` on average.
    """

    count: int
    mean: float


class Features(NamedTuple):
    """A backbone's features of every clip frame: a grid for pixel-aligned heads, its average for global ones.

    An image backbone sees the present frame alone (`t` is 1): what it knows stands for every moment.
    """

    grid: Float[Tensor, "b t c h w"]
    pooled: Float[Tensor, "b t c"]

    @property
    def future(self) -> Features:
        """Those that action steps read: without the present frame, unless there is no other."""
        return self if self.grid.shape[1] == 1 else Features(self.grid[:, 1:], self.pooled[:, 1:])


class Workspace(NamedTuple):
    """What the heads must know of the data, saved with every run: image size, and the range of the actions (metres).

    `home` is the gripper's rotation at the start of an episode; rotations are predicted relative to it. `rate` is the
    episodes' moments a second, 20 in LIBERO: what the time between two points is told by.
    """

    image_size: tuple[int, int]
    low: tuple[float, float, float]
    high: tuple[float, float, float]
    home: tuple[tuple[float, float, float], ...]
    rate: float = 20.0


class Observation(NamedTuple):
    """What a policy sees. Batched for `act`; the image is uint8 and upright."""

    image: UInt8[Tensor, "*b h w 3"]
    camera: Camera
    state: RobotState

    @classmethod
    def of(
        cls,
        image: ArrayLike,
        intrinsics: ArrayLike,
        world_from_camera: ArrayLike,
        position: ArrayLike,
        opening: ArrayLike,
    ) -> Observation:
        """That of one robot, as a batch of one, from arrays of any precision: `h w 3`, `3 3`, `4 4`, `3`, one number.

        The intrinsics are those of the image as it is given, whatever its size; lengths are in metres.

        Raises:
            ValueError: the image is not uint8 of shape `h w 3`.
        """
        image = np.asarray(image)
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(
                f"the image is {image.dtype} of shape {image.shape}, expected uint8 of shape (height, width, 3): "
                "multiply one in [0, 1] by 255 and round it, move the channels last, drop alpha"
            )
        numbers = (intrinsics, world_from_camera, position, opening)
        k, pose, point, width = (torch.as_tensor(np.asarray(x, np.float32))[None] for x in numbers)
        upright = np.ascontiguousarray(image)  # whoever turned it left a view with negative strides
        return cls(torch.as_tensor(upright)[None], Camera(k, pose), RobotState(point, width))

    def to(self, device: torch.device) -> Observation:
        """The same on a device."""
        camera = Camera(*(x.to(device) for x in self.camera))
        state = RobotState(*(x.to(device) for x in self.state))
        return Observation(self.image.to(device), camera, state)


class ActionChunk(NamedTuple):
    """What a policy wants: world-frame points (metres), rotations and gripper closings (0 open, 1 closed).

    `heatmap` is the pixel marginal of each step's prediction, for pictures; policies without one give zeros.
    """

    position: Float[Tensor, "*b a 3"]
    rotation: Float[Tensor, "*b a 3 3"]
    gripper: Float[Tensor, "*b a"]
    heatmap: Float[Tensor, "*b a h w"]


class Proprioception(NamedTuple):
    """The simulated robot's state after a step, in the frame that OSC_POSE works in (the grip site)."""

    position: Float[np.ndarray, "3"]
    rotation: Float[np.ndarray, "3 3"]
    opening: float


class Progress(NamedTuple):
    """How far the task is: the object was lifted, and the goal predicate holds now.

    `away` is the horizontal distance (metres) of the first goal's object from where it belongs.
    """

    lifted: bool
    success: bool
    away: float = 0.0


class EpisodeStart(NamedTuple):
    """Everything that determines an episode's first state. Object positions are world x, y in metres.

    `view` is (azimuth, tilt) in degrees from the default camera; `seed` draws what is left (fixtures, distractors).
    """

    seed: int
    objects: tuple[tuple[str, float, float], ...]
    view: tuple[float, float]


class Demonstration(NamedTuple):
    """One demo without its dropped rows. `ee_*` is the hand body's orientation, `site_*` the grip site's frame."""

    task: Mapping[str, str]
    """What LIBERO's files say about the task (BDDL, language, how to build the environment)."""
    start: EpisodeStart
    model_xml: str
    actions: Float[np.ndarray, "t 7"]
    states: Float[np.ndarray, "t n"]
    gripper_states: Float[np.ndarray, "t 2"]
    joint_states: Float[np.ndarray, "t 7"]
    ee_pos: Float[np.ndarray, "t 3"]
    ee_ori: Float[np.ndarray, "t 3"]
    ee_quat: Float[np.ndarray, "t 4"]
    site_pos: Float[np.ndarray, "t 3"]
    site_ori: Float[np.ndarray, "t 3 3"]
    images: Mapping[str, UInt8[np.ndarray, "t h w 3"]]
    """Raw OpenGL buffers by camera, as LIBERO names them in its files (`agentview`, `eye_in_hand`)."""
    cameras: Mapping[str, tuple[Float[np.ndarray, "3 3"], Float[np.ndarray, "4 4"]]]
    """(intrinsics, world_from_camera) of the cameras that do not move."""


class StoredDemo(NamedTuple):
    """One demo of a LIBERO file as a simulator takes it: row j of `states` is before action j, of the rest after it."""

    name: str
    task: str
    """The BDDL as text, or the path that the file names it by."""
    model_xml: str
    actions: Float[np.ndarray, "t 7"]
    states: Float[np.ndarray, "t n"]
    position: Float[np.ndarray, "t 3"]
    """The grip site, metres."""
    gripper_states: Float[np.ndarray, "t 2"]
    joint_states: Float[np.ndarray, "t 7"]


@runtime_checkable
class Simulator(Protocol):
    """One simulated robot cell.

    Commands are OSC_POSE deltas in [-1, 1] (0.05 m, 0.5 rad) and the gripper (-1 open, +1 close).
    """

    def reset(self, start: EpisodeStart) -> Proprioception: ...

    def observe(self) -> Observation: ...

    def step(self, command: Float[np.ndarray, "7"]) -> tuple[Proprioception, Progress]: ...

    def close(self) -> None: ...


__all__ = [
    "ActionChunk", "Actions", "Batch", "Bool", "Camera", "Demonstration", "EpisodeStart", "Features",
    "Float", "Int", "Observation", "Part", "Progress", "Proprioception", "RobotState", "Simulator", "StoredDemo",
    "Tensor", "UInt8", "Workspace",
]  # fmt: skip
