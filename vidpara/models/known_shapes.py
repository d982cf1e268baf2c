"""Published models whose shapes are known here, so that a training can be planned before their licence is accepted."""

from __future__ import annotations

from typing import Any

from diffusers import AutoencoderKLTemporalDecoder, UNetSpatioTemporalConditionModel
from torch._guards import detect_fake_mode
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection, DINOv3ViTConfig, DINOv3ViTModel

SVD = "stabilityai/stable-video-diffusion-img2vid"
DINOV3 = "facebook/dinov3-vits16-pretrain-lvd1689m"


def only_shapes(weights: str) -> bool:
    """Whether tensors are only planned (`vidpara.memory`), and these are known: the hub is not asked then."""
    return detect_fake_mode() is not None and weights.removesuffix("-xt") in (SVD, DINOV3)


def known(kind: type, weights: str) -> Any:
    """A model of these shapes, with weights of its own; None where the id holds no such model.

    As the published configurations have them: Stable Video Diffusion (Blattmann et al. 2023; `-xt` is of the same
    shapes) and DINOv3's ViT-S/16 (Siméoni et al. 2025).
    """
    match kind.__name__, weights.removesuffix("-xt"):
        case "UNetSpatioTemporalConditionModel", name if name == SVD:
            return UNetSpatioTemporalConditionModel(
                sample_size=96, num_attention_heads=(5, 10, 20, 20), num_frames=14
            )
        case "AutoencoderKLTemporalDecoder", name if name == SVD:
            return AutoencoderKLTemporalDecoder(
                block_out_channels=(128, 256, 512, 512),
                down_block_types=("DownEncoderBlock2D",) * 4,
                layers_per_block=2,
            )
        case "CLIPVisionModelWithProjection", name if name == SVD:
            config = CLIPVisionConfig(
                hidden_size=1280, intermediate_size=5120, num_hidden_layers=32, num_attention_heads=16,
                projection_dim=1024, patch_size=14, image_size=224, hidden_act="gelu",
            )  # fmt: skip
            return CLIPVisionModelWithProjection(config)
        case "DINOv3ViTModel", name if name == DINOV3:
            return DINOv3ViTModel(DINOv3ViTConfig(num_register_tokens=4))
        case _:
            return None
