"""A finished run on disk, written and read.

config.yaml, unet/ (loads in diffusers by itself) or vit/ (loads in transformers), autoencoder/ and, after stage two,
head.safetensors and workspace.json.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from safetensors.torch import load_file, save_file

from vidpara import cli
from vidpara.build import build_policy, build_reader
from vidpara.cli import UserError
from vidpara.config import AutoencoderConfig, TrainPolicyConfig
from vidpara.models.autoencoder import Autoencoder
from vidpara.models.svd import VideoModel
from vidpara.policy import Policy
from vidpara.types import Workspace

BACKBONES = {"video": "unet", "image": "vit"}
"""Folder of the backbone's weights."""


def save_video(run: Path, model: VideoModel, autoencoder: Autoencoder) -> None:
    """Stage one's result: a UNet that diffusers loads, and the autoencoder its latents belong to."""
    model.unet.save_pretrained(run / "unet")
    autoencoder.save(run / "autoencoder")


def save_policy(run: Path, policy: Policy, space: Workspace) -> None:
    """Stage two's result: the backbone, the head and what the head knows of the data."""
    if isinstance(policy.backbone, VideoModel):
        save_video(run, policy.backbone, policy.autoencoder)
    else:
        policy.backbone.vit.save_pretrained(run / "vit")
        policy.autoencoder.save(run / "autoencoder")
    save_file({k: v.contiguous() for k, v in policy.head.state_dict().items()}, run / "head.safetensors")
    (run / "workspace.json").write_text(json.dumps(space._asdict()))


def load_policy(run: Path, denoising_steps: int = 0) -> Policy:
    """A finished stage-two run, ready to act, with its own or another number of `denoising_steps`.

    Raises:
        UserError: the folder is not a finished run, or its weights belong to another configuration.
    """
    _complete(run, "config.yaml")
    config = read_config(run)
    _complete(run, BACKBONES[config.policy.kind], "head.safetensors", "workspace.json")
    saved = AutoencoderConfig(config.autoencoder.kind, str(run / "autoencoder"))
    own = replace(
        config,
        autoencoder=saved,
        unet=replace(config.unet, weights=str(run)),
        vit=replace(config.vit, weights=str(run / "vit")),
        policy=replace(config.policy, denoising_steps=denoising_steps or config.policy.denoising_steps),
    )
    policy = build_policy(own, build_reader(own), read_workspace(run))
    try:
        policy.head.load_state_dict(load_file(run / "head.safetensors"))
    except RuntimeError as error:
        raise UserError(
            f"{run}/head.safetensors does not fit {run}/config.yaml: {' '.join(str(error).split())}"
        ) from error
    return policy.eval()


def _complete(run: Path, *names: str) -> None:
    if missing := [name for name in names if not (run / name).exists()]:
        raise UserError(
            f"{run} is not a finished policy run ({missing[0]} is missing); train it with stages/train_policy.py"
        )


def read_config(run: Path) -> TrainPolicyConfig:
    """The configuration that a stage-two run was trained with."""
    return cli.load(TrainPolicyConfig, [str(run / "config.yaml")])


def read_workspace(run: Path) -> Workspace:
    """What the head of a finished run knows of the data."""
    stored = json.loads((run / "workspace.json").read_text())
    return Workspace(*(tuple(map(tuple, v)) if k == "home" else tuple(v) for k, v in stored.items()))
