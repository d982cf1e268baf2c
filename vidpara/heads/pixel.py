"""Pixel-aligned robot actions (PARA): where, as a distribution over pixels x heights; how, read at that pixel.

For every action step the head scores each cell of a pixel grid at each height bin (the volume). The best cell's ray
meets the plane of its height in the end effector's 3-D position. Gripper and rotation are read from the feature at
that pixel: the true one in training, the predicted one at run time.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange, reduce
from torch import nn

from vidpara.config import HeadConfig
from vidpara.geometry.bins import Bins
from vidpara.geometry.camera import lift, meets, project
from vidpara.geometry.rotation import absolute, euler_from_matrix, matrix_from_euler, relative
from vidpara.heads.readout import Readout, angle_loss, angle_of, bin_loss, mean_over_steps
from vidpara.heads.volume import local_mean, peak, soft_cells, volume_loss
from vidpara.types import ActionChunk, Actions, Bool, Camera, Features, Float, RobotState, Tensor, Workspace

FREQUENCIES = 6
OPENING_BINS = Bins(0.0, 0.1, 8)
"""Distance between the fingers (metres)."""


class PixelHead(nn.Module):
    """Volume logits over (height bin, row, column) for each action step, and readouts at one pixel."""

    told_camera = True

    def __init__(self, channels: int, steps: int, config: HeadConfig, workspace: Workspace) -> None:
        super().__init__()
        self.config, self.steps = config, steps
        self.image_size = workspace.image_size
        self.heights = Bins(workspace.low[2], workspace.high[2], config.height_bins)
        self.register_buffer("home", torch.tensor(workspace.home), persistent=False)
        (rows, columns), (height, width) = config.grid, workspace.image_size
        # Of (column, row) and (u, v). Made anew at every use, constants would have the host wait for a GPU.
        self.register_buffer(
            "cells_a_pixel", torch.tensor([columns / width, rows / height]), persistent=False
        )
        self.register_buffer(
            "pixels_a_cell", torch.tensor([width / columns, height / rows]), persistent=False
        )
        self.register_buffer("grid_scale", torch.tensor([2 / columns, 2 / rows]), persistent=False)
        self.lateral = nn.Conv2d(channels, config.width, 1)
        self.start_keypoint = nn.Linear(4 * FREQUENCIES, steps * config.width)
        self.start_state = nn.Linear(config.height_bins + OPENING_BINS.count, steps * config.width)
        self.trunk = nn.Sequential(
            *(
                layer
                for _ in range(config.layers)
                for layer in (nn.Conv2d(config.width, config.width, 3, padding=1), nn.GELU())
            )
        )
        self.volume = nn.Conv2d(config.width, config.height_bins, 1)
        self.gripper = Readout(config.width, config.gripper_bins)
        self.rotation = Readout(config.width, 3 * config.rotation_bins)

    def losses(
        self, features: Features, robot: RobotState, camera: Camera, actions: Actions
    ) -> dict[str, Float[Tensor, ""]]:
        """Cross-entropies of volume, gripper and rotation, averaged over the valid action steps."""
        trunk = self.conditioned(features, robot, camera)
        cells = self.to_cell(actions.pixel)
        height = self.heights.coordinate(actions.height)
        grip, turn = self.read_at(trunk, cells)
        angles = euler_from_matrix(relative(actions.rotation, self.home))
        gripper_bins = Bins(0.0, 1.0, self.config.gripper_bins)
        hard = self.config.targets == "hard"
        each = {
            "volume": volume_loss(self.logits(trunk), soft_cells(cells, height, hard)),
            "gripper": bin_loss(grip, gripper_bins.coordinate(actions.gripper), hard),
            "rotation": angle_loss(turn, angles, hard).sum(-1),
        }
        return mean_over_steps(each, actions)

    def act(self, features: Features, robot: RobotState, camera: Camera) -> ActionChunk:
        """Decode each step's best cell, lift it to the world, and read gripper and rotation there.

        Cells above the horizon, whose rays meet no height of the workspace, are no candidates.
        """
        trunk = self.conditioned(features, robot, camera)
        logits = self.logits(trunk).float().masked_fill(~self.reachable(camera)[:, None], -torch.inf)
        probability = logits.flatten(-3).softmax(-1).view_as(logits)
        best = peak(logits)
        cell, cameras = best.float(), Camera(camera.intrinsics[:, None], camera.world_from_camera[:, None])
        if self.config.decode == "local_mean":
            # Between cells on both sides of the horizon no ray may meet the height.
            mean = local_mean(probability, best)
            cell = torch.where(meets(*self.point(mean), cameras)[..., None], mean, cell)
        pixel, height = self.point(cell)
        grip, turn = self.read_at(trunk, self.to_cell(pixel))
        return ActionChunk(
            position=lift(pixel, height, cameras),
            rotation=absolute(matrix_from_euler(angle_of(turn, self.config.decode)), self.home),
            gripper=Bins(0.0, 1.0, self.config.gripper_bins).value(grip.argmax(-1).float()),
            heatmap=reduce(probability, "b a k h w -> b a h w", "sum"),
        )

    def conditioned(
        self, features: Features, robot: RobotState, camera: Camera
    ) -> Float[Tensor, "b a width h w"]:
        """Future frames' features on the heatmap grid, told where and how the end effector is now, and which step."""
        future = features.future.grid
        grid = F.interpolate(self.lateral(future.flatten(0, 1)), self.config.grid, mode="bilinear")
        grid = grid.unflatten(0, future.shape[:2]) + self.start_embedding(robot, camera)
        return self.trunk(grid.flatten(0, 1)).unflatten(0, grid.shape[:2])

    def start_embedding(self, robot: RobotState, camera: Camera) -> Float[Tensor, "b a width h w"]:
        """The start keypoint: each cell's offset from the end effector now, and the effector's height and opening.

        PARA adds one learned embedding at the end effector's cell; an embedding of the offset to it says the same to
        every cell, and a separate one for each action step says how far a step reaches. An end effector behind the
        camera has no pixel; it counts as in the image's corner.
        """
        here = project(robot.position, camera).nan_to_num()
        offset = self.cell_centers() - self.to_cell(here)[:, None, None]
        where = self.start_keypoint(fourier(offset / max(self.config.grid)))
        state = torch.cat(
            [self.heights.one_hot(robot.position[:, 2]), OPENING_BINS.one_hot(robot.opening)], dim=-1
        )
        how = self.start_state(state)[:, None, None]
        return rearrange(where + how, "b h w (a c) -> b a c h w", a=self.steps)

    def logits(self, trunk: Float[Tensor, "b a width h w"]) -> Float[Tensor, "b a k h w"]:
        return self.volume(trunk.flatten(0, 1)).unflatten(0, trunk.shape[:2])

    def read_at(self, trunk: Tensor, cells: Float[Tensor, "b a 2"]) -> tuple[Tensor, Tensor]:
        """Gripper logits `b a k` and rotation logits `b a 3 k` at one cell (column, row) of each step's feature map."""
        where = ((cells + 0.5) * self.grid_scale - 1).flatten(0, 1)[:, None, None]
        at_pixel = F.grid_sample(
            trunk.flatten(0, 1).float(), where, padding_mode="border", align_corners=False
        )
        at_pixel = rearrange(at_pixel, "(b a) c 1 1 -> b a c", a=trunk.shape[1])
        return self.gripper(at_pixel), rearrange(
            self.rotation(at_pixel), "b a (angle k) -> b a angle k", angle=3
        )

    def to_cell(self, pixel: Float[Tensor, "*b 2"]) -> Float[Tensor, "*b 2"]:
        """Image pixel (u, v) -> continuous grid cell (column, row); whole numbers are cell centres."""
        return pixel * self.cells_a_pixel - 0.5

    def cell_centers(self) -> Float[Tensor, "h w 2"]:
        """(column, row) of every cell."""
        rows, columns = (torch.arange(size, device=self.home.device).float() for size in self.config.grid)
        return torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1)

    def reachable(self, camera: Camera) -> Bool[Tensor, "b k h w"]:
        """Whether the ray through each cell meets the plane of each height in front of the camera."""
        heights = self.heights.centers().to(self.home)[:, None, None]
        cameras = Camera(*(matrix[:, None, None, None] for matrix in camera))
        return meets(self.to_pixel(self.cell_centers()), heights, cameras)

    def point(self, cell: Float[Tensor, "*b 3"]) -> tuple[Float[Tensor, "*b 2"], Float[Tensor, "*b"]]:
        """Image pixel and height (metres) of a continuous cell (height bin, row, column) of the volume."""
        return self.to_pixel(cell[..., 1:].flip(-1)), self.heights.value(cell[..., 0])

    def to_pixel(self, cell: Float[Tensor, "*b 2"]) -> Float[Tensor, "*b 2"]:
        """Inverse of `to_cell`."""
        return (cell + 0.5) * self.pixels_a_cell


def fourier(offset: Float[Tensor, "*b 2"]) -> Float[Tensor, "*b f"]:
    """Sines and cosines of an offset in image widths, from one period in two images to 2^(FREQUENCIES - 2) in one."""
    phase = offset[..., None] * (torch.pi * 2.0 ** torch.arange(FREQUENCIES, device=offset.device))
    return torch.cat([phase.sin(), phase.cos()], dim=-1).flatten(-2)
