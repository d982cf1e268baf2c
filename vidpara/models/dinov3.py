"""DINOv3 on the present frame: patch features for pixel-aligned heads, the class token for global ones.

Siméoni et al. 2025. The features of the present frame stand for every moment; what tells the moments apart is the
head's embedding of the action step.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import nn
from transformers import DINOv3ViTConfig, DINOv3ViTModel

from vidpara.cli import UserError
from vidpara.config import ViTConfig
from vidpara.geometry.positions import positions_2d
from vidpara.types import Features, Float, Tensor

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of the images that DINOv3 was trained on (LVD-1689M weights)."""


class ImageModel(nn.Module):
    """`features = model(present)`: the ViT's blocks `levels`, each normalised, joined channel by channel.

    With `absolute_positions` it reads patch embeddings with sinusoidal positions added. They are fixed and no part of
    the ViT's weights: transformers' class alone, from the same folder, does not add them.
    """

    def __init__(
        self, vit: DINOv3ViTModel, levels: tuple[int, ...], absolute_positions: bool = False
    ) -> None:
        super().__init__()
        blocks = vit.config.num_hidden_layers
        if not levels or not all(-blocks <= level < blocks for level in levels):
            raise UserError(f"vit.levels {levels}: the ViT has blocks {-blocks} to {blocks - 1}")
        self.vit, self.levels, self.absolute_positions = vit, levels, absolute_positions
        self.channels = vit.config.hidden_size * len(levels)
        self._freeze_unused()
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(3, 1, 1), persistent=False)

    def _freeze_unused(self) -> None:
        """What no feature depends on gets no gradient; freezing it says so to DDP and the optimizer."""
        blocks = self.vit.config.num_hidden_layers
        last = max(level % blocks for level in self.levels)
        self.vit.embeddings.mask_token.requires_grad_(False)
        self.vit.model.layer[last + 1 :].requires_grad_(False)

    def forward(self, present: Float[Tensor, "b 3 h w"]) -> Features:
        """Features of images in [-1, 1].

        Raises:
            UserError: the patches do not divide the image.
        """
        rows, columns = patches((present.shape[-2], present.shape[-1]), self.vit.config.patch_size)
        reached: dict[int, Tensor] = {}
        layers = self.vit.model.layer
        handles = [
            layers[level].register_forward_hook(lambda _m, _i, out, level=level: reached.update({level: out}))
            for level in self.levels
        ]
        if self.absolute_positions:
            embeddings = self.vit.embeddings
            handles.append(embeddings.register_forward_hook(lambda _m, _i, out: placed(out, rows, columns)))
        try:
            self.vit((present * 0.5 + 0.5 - self.mean) / self.std)
        finally:
            for handle in handles:
                handle.remove()
        tokens = torch.cat([self.vit.norm(reached[level]) for level in self.levels], dim=-1)
        grid = rearrange(tokens[:, -rows * columns :], "b (h w) c -> b c h w", h=rows)
        return Features(grid[:, None], tokens[:, None, 0])


def patches(image: tuple[int, int], patch: int) -> tuple[int, int]:
    """Rows and columns of patches in an image of so many pixels.

    Raises:
        UserError: the patches do not divide it.
    """
    rows, columns = (size // patch for size in image)
    if (rows * patch, columns * patch) != image:
        raise UserError(f"vit.patch {patch} does not divide the image of {image} pixels")
    return rows, columns


def placed(tokens: Float[Tensor, "b n c"], rows: int, columns: int) -> Float[Tensor, "b n c"]:
    """Tokens whose patches, the last `rows` x `columns`, have their position added."""
    where = positions_2d(rows, columns, tokens.shape[-1], tokens.device).to(tokens.dtype)
    return tokens + F.pad(where, (0, 0, tokens.shape[1] - len(where), 0))


def random_vit(config: ViTConfig) -> DINOv3ViTModel:
    """transformers' class with random weights.

    Without the random rescaling of positions, which pretraining uses: here the coordinates are what is to be learned.

    Raises:
        UserError: the width is not that of so many heads, each with rotary positions in two directions.
    """
    if config.width % (4 * config.heads):
        raise UserError(f"vit.width {config.width} must be a multiple of 4 x vit.heads {config.heads}")
    return DINOv3ViTModel(
        DINOv3ViTConfig(
            patch_size=config.patch,
            hidden_size=config.width,
            intermediate_size=4 * config.width,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            num_register_tokens=config.registers,
            pos_embed_rescale=None,
        )
    )
