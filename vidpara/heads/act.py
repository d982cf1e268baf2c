"""ACT: action chunking with transformers (Zhao et al. 2023), section IV-C and appendix C.

A conditional VAE. Its encoder, in training only, reads the robot's state and the chunk of actions and gives the style
z; a transformer encoder joins image tokens, state and z; a decoder with one fixed query an action step gives the chunk.
L1 loss, and `loss.kl` (10 in the paper) times the divergence of z from the unit normal. At run time z is 0.
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import nn

from vidpara.cli import UserError
from vidpara.config import ACTConfig, HeadConfig
from vidpara.geometry.positions import positions, positions_2d
from vidpara.geometry.rotation import absolute, from_two_columns, relative
from vidpara.heads.proprioception import proprioception
from vidpara.heads.readout import exactly, mean_over_steps
from vidpara.types import ActionChunk, Actions, Camera, Features, Float, RobotState, Tensor, Workspace

STATE, ACTION = 4, 10
"""Position and opening; position, gripper, and the first two columns of the rotation relative to home."""
LARGEST_OPENING = 0.1
"""Metres between open fingers, at most."""


class ACTHead(nn.Module):
    """The published policy on a backbone's patch features. Positions are normalised to [-1, 1] of the workspace."""

    told_camera = False

    def __init__(self, channels: int, steps: int, config: HeadConfig, workspace: Workspace) -> None:
        super().__init__()
        self.config, act = config, config.act
        if act.width % act.heads:
            raise UserError(
                f"policy.head.act.heads {act.heads} does not divide policy.head.act.width {act.width}"
            )
        if act.width % 4:
            raise UserError(
                f"policy.head.act.width {act.width} is not a multiple of 4: a patch's row and column have a sine and a "
                "cosine each"
            )
        self.register_buffer("low", torch.tensor(workspace.low), persistent=False)
        self.register_buffer("high", torch.tensor(workspace.high), persistent=False)
        self.register_buffer("home", torch.tensor(workspace.home), persistent=False)
        self.register_buffer("queries", positions(steps, act.width), persistent=False)
        self.latent = act.latent
        self.style_class = nn.Parameter(torch.randn(1, 1, act.width) * 0.02)
        self.style_state = nn.Linear(STATE, act.width)
        self.style_action = nn.Linear(ACTION, act.width)
        self.style = nn.TransformerEncoder(_layer(act), act.style_layers, enable_nested_tensor=False)
        self.to_style = nn.Linear(act.width, 2 * act.latent)
        self.image = nn.Linear(channels, act.width)
        self.state = nn.Linear(STATE, act.width)
        self.from_style = nn.Linear(act.latent, act.width)
        self.token_kind = nn.Parameter(torch.randn(2, act.width) * 0.02)
        self.encoder = nn.TransformerEncoder(_layer(act), act.encoder_layers, enable_nested_tensor=False)
        self.decoder = nn.TransformerDecoder(
            nn.TransformerDecoderLayer(act.width, act.heads, act.feedforward, act.dropout, batch_first=True),
            act.decoder_layers,
            norm=nn.LayerNorm(act.width),
        )
        self.action = nn.Linear(act.width, ACTION)

    def losses(
        self, features: Features, robot: RobotState, camera: Camera, actions: Actions
    ) -> dict[str, Float[Tensor, ""]]:
        """L1 of position, gripper and rotation over the valid action steps, and the divergence of the style."""
        target, state = self.normalized(actions), self.state_of(robot)
        known = target.new_ones(target.shape)
        known[..., 4:] = actions.has_rotation[..., None]
        mean, log_variance = self.encode_style(state, target * known, actions.valid)
        style = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
        error = (self.decode(features, state, style) - target).abs()
        each = {
            "position": error[..., :3].mean(-1),
            "gripper": error[..., 3],
            "rotation": error[..., 4:].mean(-1),
        }
        losses = mean_over_steps(each, actions)
        divergence = -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum(-1)
        return {**losses, "kl": divergence.mean()}

    def act(self, features: Features, robot: RobotState, camera: Camera) -> ActionChunk:
        """The chunk for style 0; the heatmap is empty."""
        state = self.state_of(robot)
        found = self.decode(features, state, state.new_zeros(len(state), self.latent)).float()
        return ActionChunk(
            position=self.low + (found[..., :3] + 1) / 2 * (self.high - self.low),
            rotation=absolute(from_two_columns(found[..., 4:]), self.home),
            gripper=((found[..., 3] + 1) / 2).clamp(0, 1),
            heatmap=found.new_zeros(*found.shape[:2], *self.config.grid),
        )

    def encode_style(
        self, state: Float[Tensor, "b s"], action: Float[Tensor, "b a d"], valid: Tensor
    ) -> tuple[Float[Tensor, "b z"], Float[Tensor, "b z"]]:
        """Mean and log variance of the style of a chunk; steps without a label are not looked at."""
        tokens = torch.cat(
            [
                self.style_class.expand(len(state), -1, -1),
                self.style_state(state)[:, None],
                self.style_action(action),
            ],
            dim=1,
        )
        tokens = tokens + positions(tokens.shape[1], tokens.shape[2], tokens.device).to(tokens.dtype)
        hidden = torch.cat([valid.new_zeros(len(state), 2), ~valid], dim=1)
        return self.to_style(self.style(tokens, src_key_padding_mask=hidden)[:, 0]).chunk(2, dim=-1)

    def decode(
        self, features: Features, state: Float[Tensor, "b s"], style: Float[Tensor, "b z"]
    ) -> Float[Tensor, "b a d"]:
        """Normalised actions."""
        present = features.grid[:, 0]
        rows, columns = present.shape[-2:]
        image = self.image(rearrange(present, "b c h w -> b (h w) c"))
        image = image + positions_2d(rows, columns, image.shape[-1], image.device).to(image.dtype)
        tokens = torch.stack([self.from_style(style), self.state(state)], dim=1) + self.token_kind
        memory = self.encoder(torch.cat([tokens, image], dim=1))
        return exactly(self.action, self.decoder(self.queries.expand(len(state), -1, -1), memory))

    def normalized(self, actions: Actions) -> Float[Tensor, "b a d"]:
        position = 2 * (actions.position - self.low) / (self.high - self.low) - 1
        columns = relative(actions.rotation, self.home)[..., :2].mT.flatten(-2)
        return torch.cat([position, 2 * actions.gripper[..., None] - 1, columns], dim=-1)

    def state_of(self, robot: RobotState) -> Float[Tensor, "b s"]:
        """What the head is told of the hand, normalised; in training with new noise at each call."""
        position = 2 * (robot.position - self.low) / (self.high - self.low) - 1
        state = torch.cat([position, 2 * robot.opening[:, None] / LARGEST_OPENING - 1], dim=-1)
        return proprioception(state, 2 / (self.high - self.low), self.config, self.training)


def _layer(config: ACTConfig) -> nn.TransformerEncoderLayer:
    return nn.TransformerEncoderLayer(
        config.width, config.heads, config.feedforward, config.dropout, batch_first=True
    )
