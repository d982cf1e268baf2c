"""Published models whose shapes are known here, so that a training can be planned before their licence is accepted."""

from __future__ import annotations

from typing import Any

from torch._guards import detect_fake_mode

SVD = "stabilityai/stable-video-diffusion-img2vid"
"""Blattmann et al. 2023; `-xt` is of the same shapes."""
DINOV3 = "facebook/dinov3-vits16-pretrain-lvd1689m"
"""Siméoni et al. 2025, ViT-S/16."""
SHAPES: dict[tuple[str, str], dict[str, Any]] = {
    (SVD, "UNetSpatioTemporalConditionModel"): {
        "sample_size": 96, "num_attention_heads": (5, 10, 20, 20), "num_frames": 14,
    },
    (SVD, "AutoencoderKLTemporalDecoder"): {
        "block_out_channels": (128, 256, 512, 512), "down_block_types": ("DownEncoderBlock2D",) * 4,
        "layers_per_block": 2,
    },
    (SVD, "CLIPVisionModelWithProjection"): {
        "hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 16,
        "projection_dim": 1024, "patch_size": 14, "image_size": 224, "hidden_act": "gelu",
    },
    (DINOV3, "DINOv3ViTModel"): {"num_register_tokens": 4},
}  # fmt: skip
"""What their published configurations say unlike the classes' defaults, by id and class."""


def only_shapes(weights: str) -> bool:
    """Whether tensors are only planned (`vidpara.memory`), and these are known: the hub is not asked then."""
    return detect_fake_mode() is not None and weights.removesuffix("-xt") in (SVD, DINOV3)


def known(kind: Any, weights: str) -> Any:
    """A model of these shapes, of a class of diffusers or transformers; None where the id holds no such model."""
    settings = SHAPES.get((weights.removesuffix("-xt"), kind.__name__))
    if settings is None:
        return None
    configured = getattr(kind, "config_class", None)  # transformers'
    return kind(configured(**settings)) if configured else kind(**settings)
