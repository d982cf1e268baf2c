"""The global baseline: average-pooled features of each frame -> coordinates, gripper and rotation by one MLP.

The coordinates are the world's or the image's (`policy.head.coordinates`). With the image's it is told the camera and
answers in pixels and heights, as the pixel head does, but from the whole picture at once, without a heatmap.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from vidpara.config import HeadConfig
from vidpara.geometry.bins import Bins
from vidpara.geometry.camera import lift, meets, project
from vidpara.geometry.rotation import absolute, euler_from_matrix, matrix_from_euler, relative
from vidpara.heads.proprioception import proprioception
from vidpara.heads.readout import Readout, angle_loss, angle_of, bin_loss, exactly, mean_over_steps
from vidpara.types import ActionChunk, Actions, Camera, Features, Float, RobotState, Tensor, Workspace


class RegressionHead(nn.Module):
    """Sigmoid over the workspace box for positions, or over the image and the box's heights; gripper and rotation bins
    as in the pixel head.

    It is told the same as the pixel head, unless the configuration says otherwise: the end effector's position, its
    opening and the step.
    """

    def __init__(self, channels: int, steps: int, config: HeadConfig, workspace: Workspace) -> None:
        super().__init__()
        self.config, self.told_camera = config, config.coordinates == "image"
        self.register_buffer("low", torch.tensor(workspace.low), persistent=False)
        self.register_buffer("high", torch.tensor(workspace.high), persistent=False)
        self.register_buffer("home", torch.tensor(workspace.home), persistent=False)
        height, width = workspace.image_size
        self.register_buffer("image_size", torch.tensor([float(width), float(height)]), persistent=False)
        self.start_state = nn.Linear(4, channels)
        self.step_embedding = nn.Parameter(torch.zeros(steps, channels))
        self.trunk = nn.Sequential(
            nn.LayerNorm(channels), nn.Linear(channels, 4 * config.width), nn.GELU(),
            nn.Linear(4 * config.width, 4 * config.width), nn.GELU(),
        )  # fmt: skip
        self.position = nn.Linear(4 * config.width, 3)
        self.gripper = Readout(4 * config.width, config.gripper_bins)
        self.rotation = Readout(4 * config.width, 3 * config.rotation_bins)

    def losses(
        self, features: Features, robot: RobotState, camera: Camera, actions: Actions
    ) -> dict[str, Float[Tensor, ""]]:
        """L1 of the coordinates (in [0, 1]) and cross-entropies, averaged over the valid action steps."""
        found, grip, turn = self.outputs(features, robot)
        angles = euler_from_matrix(relative(actions.rotation, self.home))
        closing = Bins(0.0, 1.0, self.config.gripper_bins).coordinate(actions.gripper)
        hard = self.config.targets == "hard"
        each = {
            "position": F.l1_loss(found, self.coordinates(actions), reduction="none").mean(-1),
            "gripper": bin_loss(grip, closing, hard),
            "rotation": angle_loss(turn, angles, hard).sum(-1),
        }
        return mean_over_steps(each, actions)

    def act(self, features: Features, robot: RobotState, camera: Camera) -> ActionChunk:
        """Coordinates straight from the network; the heatmap is empty."""
        found, grip, turn = self.outputs(features, robot)
        return ActionChunk(
            position=self.located(found.float(), robot, camera),
            rotation=absolute(matrix_from_euler(angle_of(turn, self.config.decode)), self.home),
            gripper=Bins(0.0, 1.0, self.config.gripper_bins).value(grip.argmax(-1).float()),
            heatmap=found.new_zeros(*found.shape[:2], *self.config.grid),
        )

    def outputs(self, features: Features, robot: RobotState) -> tuple[Tensor, Tensor, Tensor]:
        """Coordinates in [0, 1], gripper logits, rotation logits."""
        where = (robot.position - self.low) / (self.high - self.low)
        state = torch.cat([where, robot.opening[:, None] * 10], dim=-1)
        state = proprioception(state, 1 / (self.high - self.low), self.config, self.training)
        hidden = self.trunk(features.future.pooled + self.start_state(state)[:, None] + self.step_embedding)
        turn = self.rotation(hidden).unflatten(-1, (3, -1))
        return exactly(self.position, hidden).sigmoid(), self.gripper(hidden), turn

    def coordinates(self, actions: Actions) -> Float[Tensor, "b a 3"]:
        """Where the end effector is, in [0, 1]^3: in the workspace box, or in the image and of the box's heights."""
        in_box = (actions.position - self.low) / (self.high - self.low)
        if self.config.coordinates == "world":
            return in_box
        return torch.cat([actions.pixel.nan_to_num() / self.image_size, in_box[..., 2:]], dim=-1)

    def located(
        self, found: Float[Tensor, "b a 3"], robot: RobotState, camera: Camera
    ) -> Float[Tensor, "b a 3"]:
        """Inverse of `coordinates`: points in the world (metres). Where the ray through a pixel meets no such height,
        the end effector stays where it is.
        """
        in_box = self.low + found * (self.high - self.low)
        if self.config.coordinates == "world":
            return in_box
        cameras = Camera(*(matrix[:, None] for matrix in camera))
        pixel, height = found[..., :2] * self.image_size, in_box[..., 2]
        met, here = meets(pixel, height, cameras), robot.position[:, None]
        pixel = torch.where(met[..., None], pixel, project(here, cameras))
        return lift(pixel, torch.where(met, height, here[..., 2]), cameras)
