"""The cross-attention context."""

from __future__ import annotations

import torch
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection
from transformers.models.clip.image_processing_clip import CLIPImageProcessor

from vidpara.models.image_encoder import CLIP_MEAN, CLIP_STD, CLIPContext, ZeroContext


def test_clip_gives_one_projected_token_of_the_normalised_frame():
    config = CLIPVisionConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=14,
        projection_dim=16,
    )  # fmt: skip
    clip = CLIPVisionModelWithProjection(config).eval()
    frames = torch.rand(3, 3, 28, 28) * 2 - 1
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (CLIP_MEAN, CLIP_STD))
    expected = clip((frames / 2 + 0.5 - mean) / std).image_embeds
    token = CLIPContext(clip)(frames)
    assert token.shape == (3, 1, 16)
    torch.testing.assert_close(token[:, 0], expected, atol=1e-5, rtol=1e-4)


def test_the_normalisation_is_transformers_own():
    processor = CLIPImageProcessor()
    assert tuple(processor.image_mean) == CLIP_MEAN and tuple(processor.image_std) == CLIP_STD


def test_the_null_condition_is_a_zero_token():
    assert torch.equal(ZeroContext(8)(torch.rand(2, 3, 4, 4)), torch.zeros(2, 1, 8))
