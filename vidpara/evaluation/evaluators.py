"""What the trainer asks for on its schedule: action errors, per-step strips, generated clips.

An evaluator is called with the model and the step and yields (name, number or picture).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from torch import nn
from torch.utils.data import Dataset, default_collate

from vidpara.data.clips import Clips
from vidpara.evaluation.pictures import clip_video, strip
from vidpara.geometry.camera import project
from vidpara.geometry.rotation import angle_between
from vidpara.models.autoencoder import Autoencoder
from vidpara.models.svd import VideoModel
from vidpara.policy import Policy, VideoPolicy
from vidpara.types import ActionChunk, Batch, Camera, Float, Tensor

STRIPS = 3
BATCH = 4
"""Clips at a time: what an evaluation takes comes on top of a training's moments and gradients."""


class ActionErrors:
    """Medians over validation clips and steps: pixels, metres of height and of position, degrees of rotation where that
    is learnt; the mean of gripper closing.

    Of the position also what nine of ten stay below: a policy that goes the wrong way from the start, and is precise
    everywhere else, has a good median. Nothing where no step has a label.
    """

    def __init__(self, clips: Dataset) -> None:
        self.clips = clips

    def __call__(self, model: nn.Module, step: int) -> Iterator[tuple[str, float]]:
        pixel, height, position, gripper, rotation = [], [], [], [], []
        for first in range(0, len(self.clips), BATCH):
            batch = collate(self.clips, range(first, min(first + BATCH, len(self.clips))), model)
            chunk, valid = plan(model, batch), batch.actions.valid
            error = chunk.position - batch.actions.position
            pixel.append((pixels(chunk, batch.camera) - batch.actions.pixel).norm(dim=-1)[valid])
            height.append(error[..., 2].abs()[valid])
            position.append(error.norm(dim=-1)[valid])
            gripper.append((chunk.gripper - batch.actions.gripper).abs()[valid])
            turned = angle_between(chunk.rotation, batch.actions.rotation)
            rotation.append(turned[valid & batch.actions.has_rotation])
        if not any(map(len, pixel)):
            return
        yield "val/pixel_error", float(torch.cat(pixel).median())
        yield "val/height_error", float(torch.cat(height).median())
        yield "val/position_error", float(torch.cat(position).median())
        yield "val/position_error_90", float(torch.cat(position).quantile(0.9))
        yield "val/gripper_error", float(torch.cat(gripper).mean())
        if model.turns and any(map(len, rotation)):
            yield "val/rotation_error", math.degrees(torch.cat(rotation).median())


class Strips:
    """`vis/train_strip` and `vis/val_strip`: frames, heatmaps, predicted and true end effector, step by step."""

    def __init__(self, training: Dataset, validation: Dataset, folder: Path) -> None:
        self.sources = {"vis/train_strip": training, "vis/val_strip": validation}
        self.folder = folder

    def __call__(self, model: nn.Module, step: int) -> Iterator[tuple[str, Path]]:
        for name, clips in self.sources.items():
            batch = collate(clips, spread(labelled(clips), STRIPS), model)
            chunk = plan(model, batch)
            frames = model.autoencoder.decode(batch.latents)
            path = self.folder / f"{name.split('/')[1]}_{step:06d}.png"
            strip(frames, chunk.heatmap, pixels(chunk, batch.camera), batch.actions.pixel, path)
            yield name, path


class ImaginedPlans:
    """`vis/imagined`: held-out clips and, below each, the clip that the policy's video model imagines from the first
    frame, both under the same heatmaps and planned points.

    The policy does not need the imagined clip to act; it shows what the features were trained to know.
    """

    def __init__(self, clips: Dataset, steps: int, folder: Path) -> None:
        self.clips, self.steps, self.folder = clips, steps, folder

    def __call__(self, model: nn.Module, step: int) -> Iterator[tuple[str, Path]]:
        assert isinstance(model, VideoPolicy)
        batch = collate(self.clips, spread(len(self.clips), STRIPS), model)
        chunk = plan(model, batch)
        imagined = generate(model.backbone, batch, self.steps)
        both = rearrange(torch.stack([batch.latents, imagined]), "two b t c h w -> (b two) t c h w")
        twice = [
            x.repeat_interleave(2, 0)
            for x in (chunk.heatmap, pixels(chunk, batch.camera), batch.actions.pixel)
        ]
        path = self.folder / f"imagined_{step:06d}.png"
        strip(model.autoencoder.decode(both), *twice, path)
        yield "vis/imagined", path


class GeneratedClips:
    """`vis/generated`: clips sampled from the present frame, beside the true ones, as a video."""

    def __init__(
        self, clips: Dataset, autoencoder: Autoencoder, count: int, steps: int, folder: Path
    ) -> None:
        self.clips, self.count, self.steps = clips, count, steps
        self.autoencoder, self.folder = autoencoder, folder

    def __call__(self, model: nn.Module, step: int) -> Iterator[tuple[str, float | Path]]:
        assert isinstance(model, VideoModel)
        batch = collate(self.clips, spread(len(self.clips), self.count), model)
        clip = generate(model, batch, self.steps)
        yield "val/generated_error", float((clip - batch.latents).square().mean())
        path = self.folder / f"generated_{step:06d}.mp4"
        # The autoencoder is no part of what stage one trains: in between the memory is the UNet's.
        self.autoencoder.to(clip.device)
        clip_video(self.autoencoder.decode(batch.latents), self.autoencoder.decode(clip), path)
        self.autoencoder.to("cpu")
        yield "vis/generated", path


def labelled(clips: Dataset) -> int:
    """How many clips, the first ones, are of episodes with labels: a video's camera and end effector stand nowhere."""
    return clips.labelled if isinstance(clips, Clips) else len(clips)


def collate(clips: Dataset, indices, model: nn.Module) -> Batch:
    """The chosen clips as one batch on the model's device."""
    device = next(model.parameters()).device
    return _to(default_collate([clips[i] for i in indices]), device)


def generate(model: VideoModel, batch: Batch, steps: int) -> Float[Tensor, "b t c h w"]:
    """Latents of clips sampled from the present frames, always with the same noise."""
    generator = torch.Generator(batch.latents.device).manual_seed(0)
    return model.generate(batch.latents[:, 0], batch.context, batch.latents.shape[1], steps, generator)


def plan(model: nn.Module, batch: Batch) -> ActionChunk:
    """What the policy would do at each clip's present frame."""
    assert isinstance(model, Policy)
    return model.act_on_latents(batch.latents[:, 0], batch.context, batch.state, batch.camera)


def pixels(chunk: ActionChunk, camera: Camera) -> Float[Tensor, "b a 2"]:
    """Where the predicted points lie in the image."""
    return project(chunk.position, Camera(camera.intrinsics[:, None], camera.world_from_camera[:, None]))


def spread(length: int, count: int) -> list[int]:
    """`count` indices, evenly spaced."""
    return [round(i * (length - 1) / max(1, count - 1)) for i in range(count)]


def _to(values: Any, device: torch.device) -> Any:
    if isinstance(values, Tensor):
        return values.to(device)
    return type(values)(*(_to(value, device) for value in values))
