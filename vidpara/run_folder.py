"""A finished run on disk, written and read.

config.yaml, README.md (the model card), unet/ (loads in diffusers by itself) or vit/ (loads in transformers),
autoencoder/; after stage one trained_on.txt, after stage two head.safetensors and workspace.json. With SVD's own
autoencoder and image encoder the folder is a whole StableVideoDiffusionPipeline.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from safetensors.torch import save_file
from torch import nn

from vidpara import cli
from vidpara.build import build_autoencoder, build_image_encoder, build_video_model
from vidpara.build_policy import build_policy, build_reader
from vidpara.cli import UserError
from vidpara.config import AutoencoderConfig, TrainPolicyConfig, TrainVideoConfig
from vidpara.files import beside, write_atomically
from vidpara.model_card import model_card
from vidpara.models.autoencoder import Autoencoder, PatchPCA, SVDAutoencoder
from vidpara.models.diffusion import scheduler
from vidpara.models.image_encoder import CLIPContext
from vidpara.models.lora import merge_lora
from vidpara.models.svd import VideoModel
from vidpara.models.weight_files import read_tensors
from vidpara.policy import Policy
from vidpara.run_config import read_config
from vidpara.training import checkpoint
from vidpara.types import Workspace

BACKBONES = {"video": "unet", "image": "vit"}
"""Folder of the backbone's weights."""
PRODUCTS = ("autoencoder", "head.safetensors", "workspace.json")
"""What says that a run is finished: the first after stage one, all of them after stage two."""
Stage = TypeVar("Stage", TrainPolicyConfig, TrainVideoConfig)
FITTED = "checkpoint-autoencoder"
"""The autoencoder that a run began with, beside its checkpoints."""


def as_begun(config: Stage) -> Stage:
    """The configuration with the autoencoder that its run began with, if there is a checkpoint to go on from: fitted
    anew, on another processor or on pictures that have changed since, it would give other latents.
    """
    fitted = config.run / FITTED
    if checkpoint.latest(config.run) is None or not fitted.is_dir():
        return config
    return replace(config, autoencoder=replace(config.autoencoder, weights=str(fitted)))


def keep_fitted(config: TrainPolicyConfig | TrainVideoConfig, autoencoder: Autoencoder) -> None:
    """Keep an autoencoder that was fitted for this run, for `as_begun`."""
    if isinstance(autoencoder, PatchPCA) and config.autoencoder.weights is None:
        _put(config.run / FITTED, autoencoder.save)


def save_video(run: Path, model: VideoModel, autoencoder: Autoencoder, image_encoder: nn.Module) -> None:
    """A video model that diffusers loads: the UNet, or with SVD's own autoencoder and image encoder a whole pipeline.

    The autoencoder's latents are what the UNet works in, so it is always there, in `autoencoder`.
    """
    merge_lora(model.unet)
    if isinstance(autoencoder, SVDAutoencoder) and isinstance(image_encoder, CLIPContext):
        # Only here: the import is slow, and warns of torchvision.
        from diffusers import StableVideoDiffusionPipeline
        from transformers import CLIPImageProcessor

        side = image_encoder.clip.config.image_size
        StableVideoDiffusionPipeline(
            vae=autoencoder.vae,
            image_encoder=image_encoder.clip,
            unet=model.unet,
            scheduler=scheduler(model.diffusion),
            feature_extractor=CLIPImageProcessor(
                size={"shortest_edge": side}, crop_size={"height": side, "width": side}
            ),
        ).save_pretrained(run)
        _put(run / "autoencoder", lambda folder: shutil.copytree(run / "vae", folder, copy_function=_link))
    else:
        model.unet.save_pretrained(run / "unet")
        _put(run / "autoencoder", autoencoder.save)


def _put(folder: Path, write: Callable[[Path], object]) -> None:
    """What `write` puts into a folder, under this name as soon as it is whole: it says that the run has finished."""
    with beside(folder) as part:
        write(part)


def _link(source: str, target: str) -> None:
    """The same file under a second name; a copy where the disk cannot do that."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def save_card(run: Path, config: TrainPolicyConfig | TrainVideoConfig) -> None:
    """The run's README.md."""
    command = run / "command.txt"
    text = model_card(config, command.read_text().strip() if command.is_file() else "")
    (run / "README.md").write_text(text)


def save_policy(run: Path, policy: Policy, space: Workspace, config: TrainPolicyConfig | None = None) -> None:
    """Stage two's result: the backbone, the head and what the head knows of the data; with `config` the card, too."""
    if isinstance(policy.backbone, VideoModel):
        save_video(run, policy.backbone, policy.autoencoder, policy.image_encoder)
    else:
        policy.backbone.vit.save_pretrained(run / "vit")
        _put(run / "autoencoder", policy.autoencoder.save)
    save_file({k: v.contiguous() for k, v in policy.head.state_dict().items()}, run / "head.safetensors")
    write_atomically(run / "workspace.json", json.dumps(space._asdict()).encode())
    if config:
        save_card(run, config)


def load_policy(run: Path, denoising_steps: int = 0) -> Policy:
    """A finished stage-two run, ready to act, with its own or another number of `denoising_steps`.

    Raises:
        UserError: the folder is not a finished run, its weights belong to another configuration, or it has no clip to
            denoise.
    """
    _complete(run, "config.yaml", "head.safetensors", "workspace.json")  # of stage one the second is missing
    config = read_config(run)
    if denoising_steps and config.policy.kind != "video":
        raise UserError(
            f"denoising_steps {denoising_steps} is for policies on a video model, {run} is of kind "
            f"{config.policy.kind}; leave --denoising_steps out"
        )
    _complete(run, BACKBONES[config.policy.kind])
    own = replace(
        _with_own_weights(config, run),
        vit=replace(config.vit, weights=str(run / "vit")),
        policy=replace(config.policy, denoising_steps=denoising_steps or config.policy.denoising_steps),
    )
    policy = build_policy(own, build_reader(own), read_workspace(run))
    try:
        policy.head.load_state_dict(read_tensors(run / "head.safetensors"))
    except RuntimeError as error:
        raise UserError(
            f"{run}/head.safetensors does not fit {run}/config.yaml: {' '.join(str(error).split())}"
        ) from error
    return policy.eval()


def load_video(run: Path) -> tuple[VideoModel, Autoencoder, nn.Module]:
    """A finished stage-one run: the video model, and the autoencoder and image encoder that it was trained with.

    Raises:
        UserError: the folder is not a finished run.
    """
    _complete(run, "config.yaml", "unet", "autoencoder", stage="train_video")
    config = _with_own_weights(cli.load(TrainVideoConfig, [str(run / "config.yaml")]), run)
    autoencoder = build_autoencoder(config.autoencoder)
    model = build_video_model(config.unet, config.diffusion, autoencoder, config.data.clip.frames)
    return (
        model,
        autoencoder,
        build_image_encoder(config.image_encoder, model.unet.config.cross_attention_dim),
    )


def _with_own_weights(config: Any, run: Path) -> Any:
    """A stage's configuration with the run's own weights in the place of those that it began from."""
    whole = (run / "image_encoder").is_dir()
    return replace(
        config,
        autoencoder=AutoencoderConfig(config.autoencoder.kind, str(run / "autoencoder")),
        image_encoder=replace(config.image_encoder, weights=str(run)) if whole else config.image_encoder,
        unet=replace(config.unet, weights=str(run), lora=0, compile=False),  # adapters were merged
    )


def _complete(run: Path, *names: str, stage: str = "train_policy") -> None:
    if missing := [name for name in names if not (run / name).exists()]:
        kind = stage.removeprefix("train_")
        raise UserError(
            f"{run} is not a finished {kind} run ({missing[0]} is missing); train it with stages/{stage}.py"
        )


def read_workspace(run: Path) -> Workspace:
    """What the head of a finished run knows of the data."""
    stored = json.loads((run / "workspace.json").read_text())
    rate = {"rate": stored.pop("rate")} if "rate" in stored else {}  # runs of older versions have none
    return Workspace(*(tuple(map(tuple, v)) if k == "home" else tuple(v) for k, v in stored.items()), **rate)
