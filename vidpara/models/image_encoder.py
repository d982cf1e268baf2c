"""The UNet's cross-attention context: one CLIP image token of the present frame, or SVD's unconditional zero token."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn
from transformers import CLIPVisionModelWithProjection

from vidpara.types import Float, Tensor

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


class ZeroContext(nn.Module):
    """SVD's null condition: a zero token. The video model still sees the present frame through its input channels."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, frames: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 1 d"]:
        return frames.new_zeros(len(frames), 1, self.dim)


class CLIPContext(nn.Module):
    """CLIP's projected image embedding, resized with antialiasing and normalised as in the SVD pipeline."""

    def __init__(self, clip: CLIPVisionModelWithProjection) -> None:
        super().__init__()
        self.clip = clip.eval().requires_grad_(False)
        self.dim = clip.config.projection_dim
        self.register_buffer("mean", torch.tensor(CLIP_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(CLIP_STD).view(3, 1, 1), persistent=False)

    @torch.no_grad()
    def forward(self, frames: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 1 d"]:
        size = self.clip.config.image_size
        resized = F.interpolate(frames, (size, size), mode="bicubic", antialias=True).clamp(-1, 1)
        return self.clip((resized * 0.5 + 0.5 - self.mean) / self.std).image_embeds[:, None]
