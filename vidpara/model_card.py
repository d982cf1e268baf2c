"""The README.md of a trained run: what it is, how it was made, how to load it, and whose licence it is under."""

from __future__ import annotations

from pathlib import Path

import yaml

from vidpara.config import TrainPolicyConfig, TrainVideoConfig

SVD_LINK = "https://huggingface.co/stabilityai/stable-video-diffusion-img2vid/blob/main/LICENSE.md"
DINO_LINK = "https://ai.meta.com/resources/models-and-libraries/dinov3-license/"
SVD_LICENCE = (
    "The weights were fine-tuned from Stable Video Diffusion and fall under Stability AI's community licence: free "
    f"below a revenue threshold, with registration and attribution ({SVD_LINK})."
)
DINO_LICENCE = f"The weights were fine-tuned from DINOv3 and fall under Meta's DINOv3 licence ({DINO_LINK})."
OWN_LICENCE = "Trained from random weights; no published model is inside."
NAMES = {
    SVD_LICENCE: {
        "license": "other",
        "license_name": "stable-video-diffusion-community",
        "license_link": SVD_LINK,
    },
    DINO_LICENCE: {"license": "other", "license_name": "dinov3-license", "license_link": DINO_LINK},
}
"""What the hub is told of a licence; neither is on its own list."""


def model_card(config: TrainPolicyConfig | TrainVideoConfig, command: str) -> str:
    """Markdown with the front matter that the Hugging Face hub reads."""
    policy = isinstance(config, TrainPolicyConfig)
    image = isinstance(config, TrainPolicyConfig) and config.policy.kind == "image"
    base, licence = _base(config), _licence(config)
    front = {
        "library_name": "vidpara" if policy else "diffusers",
        "tags": [
            *("robotics", "vidpara"),
            *([] if image else ["video-diffusion"]),
            "para" if policy else "image-to-video",
        ],
        **NAMES.get(licence, {}),
        **({"base_model": base} if base else {}),
    }
    if image:
        what = "An image policy: a DINOv3 backbone with an action head."
    elif policy:
        what = "A robot policy: a video diffusion UNet whose decoder features an action head reads."
    else:
        what = "A video diffusion model, fine-tuned on robot rollouts."
    load, clips = _loading(config), config.trainer.batch_size * config.trainer.accumulate
    return (
        f"---\n{yaml.safe_dump(front, sort_keys=False)}---\n\n# {config.run.name}\n\n{what} Trained with vidpara for "
        f"{config.trainer.steps:,} steps of {clips} clips a process.\n\n## Load\n\n```python\n{load}```\n\n"
        f"## How it was trained\n\n```\n{command}\n```\n\n`config.yaml` holds every setting and is itself a valid "
        f"input of the stage; `metrics.jsonl` the curves.\n\n## Licence\n\n{licence} The simulator's assets, which the "
        "training images show, are not part of this folder.\n"
    )


def _licence(config: TrainPolicyConfig | TrainVideoConfig) -> str:
    """Whose terms the weights are under; a local folder is taken for a copy of what is published."""
    if isinstance(config, TrainPolicyConfig) and config.policy.kind == "image":
        return DINO_LICENCE if config.vit.weights else OWN_LICENCE
    return SVD_LICENCE if config.unet.weights or config.autoencoder.kind == "svd" else OWN_LICENCE


def _base(config: TrainPolicyConfig | TrainVideoConfig) -> str:
    """The hub id that training started from; nothing for a local folder or random weights."""
    image = isinstance(config, TrainPolicyConfig) and config.policy.kind == "image"
    weights = config.vit.weights if image and isinstance(config, TrainPolicyConfig) else config.unet.weights
    return weights if weights and not Path(weights).exists() else ""


def _loading(config: TrainPolicyConfig | TrainVideoConfig) -> str:
    if isinstance(config, TrainPolicyConfig):
        return (
            "from pathlib import Path\nfrom vidpara.run_folder import load_policy\n\n"
            'policy = load_policy(Path("this folder"))\nchunk = policy.act(observation)\n'
        )
    if config.autoencoder.kind == "svd" and config.image_encoder.kind == "clip":
        return (
            "from diffusers import StableVideoDiffusionPipeline\n\n"
            'pipeline = StableVideoDiffusionPipeline.from_pretrained("this folder")\n'
        )
    return (
        "from diffusers import UNetSpatioTemporalConditionModel\n\n"
        'unet = UNetSpatioTemporalConditionModel.from_pretrained("this folder", subfolder="unet")\n'
    )
