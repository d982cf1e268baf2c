"""How much memory a training takes on each GPU, counted before anything is allocated.

The model is built and run forward with fake tensors, which have shapes and no contents. Weights, gradients, optimiser
and average follow from the parameters; activations are what autograd saves in the forward pass, storage by storage.
Where weights are divided what is gathered comes on top: it is counted from the units that training divides.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import nn

from vidpara.build import build_video_model, shaped_autoencoder
from vidpara.build_policy import build_policy, from_video_run
from vidpara.cli import UserError
from vidpara.config import DataConfig, TrainPolicyConfig, TrainVideoConfig
from vidpara.data.source_file import sources_of
from vidpara.data.sources import read_source
from vidpara.models.activations import activations
from vidpara.models.autoencoder import Pixels, check_size
from vidpara.models.checkpointing import layers
from vidpara.models.fake import autocast_of_cuda, fake
from vidpara.policy import Policy, VideoPolicy
from vidpara.training.muon import by_shape
from vidpara.types import Actions, Batch, Camera, RobotState, Tensor, Workspace

FLOAT = 4
"""Bytes of a float32: weights, gradients, moments and the average are kept in it; autocast makes the bf16 copies."""
HALF = 2
"""Bytes of a bf16, in which FSDP gathers layers."""
MOMENTS = {"adamw": 8, "adamw8bit": 2, "muon": 4}
"""Bytes of the optimiser's state a trained weight; Muon's is that of its matrices."""
UPDATE = 4 + 3 * 2 + 2 * 4
"""Bytes a weight of those that Muon updates at once: what it orthogonalises, three bf16 copies in the iteration, the
result, and the result in the weight's shape."""
GIB = 2**30


class Footprint(NamedTuple):
    """Bytes on each GPU. `weights` are all of them, frozen encoders included.

    `gathered` is what is whole at the worst moment, in the backward pass: weights and gradients of what is in no unit,
    weights of the layer at work and of the next one (ZeRO-2: of every layer), and gradients of the layer at work, as
    computed and as sent.
    """

    parameters: int
    trained: int
    weights: int
    gradients: int
    optimizer: int
    average: int
    activations: int
    largest_block: int
    """What one checkpointed layer or block needs while it is computed again."""
    gathered: int = 0
    whole_copy: int = 0
    """Weights of the undivided copy that evaluations run; then there are neither gradients nor activations."""
    update: int = 0
    """What Muon makes for its largest group of equal shapes; then there are gradients and no activations."""

    @property
    def total(self) -> int:
        """At the largest of three moments: in the backward pass, in the update, in an evaluation of divided weights."""
        kept = self.weights + self.optimizer + self.average
        backward = self.activations + self.largest_block + self.gathered
        return kept + max(self.gradients + max(backward, self.update), self.whole_copy)


class Footprints(NamedTuple):
    """One training in three ways: everything on each GPU (one GPU, or DDP), and divided among them.

    ZeRO-2 keeps all layers' gathered weights until the backward pass, FSDP2 gathers them anew.
    """

    ddp: Footprint
    zero2: Footprint
    fsdp2: Footprint


def plan(config: TrainPolicyConfig | TrainVideoConfig, gpus: int = 1) -> Footprints:
    """The memory that one step of this training takes on each of so many GPUs.

    Raises:
        UserError: fewer than one GPU, a batch that cannot be trained on, or the image size is not known, because there
            are no rollouts yet and `data.size` is not set.
    """
    if gpus < 1:
        raise UserError(f"--plan {gpus}: give the number of GPUs, at least 1")
    size = _image_size(config.data)
    half = config.trainer.precision != "no"  # `auto` is bf16 on every GPU that one would plan for
    config = replace(config, unet=replace(config.unet, compile=False))  # it would compile for fake tensors
    with fake():
        model, shape = _model(config, size)
        if isinstance(model, VideoPolicy):
            model.acting(clips(config, gpus))
        batch = _batch(config.trainer.batch_size, shape)
        with autocast_of_cuda() if half else nullcontext():
            saved = activations(model.train(), lambda: model(batch))
        counts = count(model)
        zero2, fsdp2 = (_gathered(model, HALF if half else FLOAT, at_once) for at_once in (None, 2))
    parameters, trained = counts
    moments = MOMENTS[config.optimizer.kind] * trained
    update = 0
    if config.optimizer.kind == "muon":
        adamw, matrices = _of_adamw_and_muon(model, config.optimizer.muon_head)
        moments += (MOMENTS["adamw"] - MOMENTS["muon"]) * _size(adamw)
        update = UPDATE * max(map(_size, by_shape(matrices)), default=0)
    ddp = Footprint(
        parameters,
        trained,
        weights=FLOAT * parameters,
        gradients=FLOAT * trained,
        optimizer=moments,
        average=FLOAT * trained if config.trainer.ema else 0,
        activations=saved.bytes,
        largest_block=saved.largest,
        update=update,
    )
    kept = ("weights", "gradients", "optimizer", "average")
    divided = ddp._replace(**{name: -(-getattr(ddp, name) // gpus) for name in kept}, whole_copy=ddp.weights)
    return Footprints(ddp, divided._replace(gathered=zero2), divided._replace(gathered=fsdp2))


def _of_adamw_and_muon(model: nn.Module, muon_head: bool) -> tuple[list[Tensor], list[Tensor]]:
    """Trained weights that Muon leaves to AdamW, vectors and the head's unless it is told otherwise; and the others."""
    head = {id(weight) for weight in model.head.parameters()} if isinstance(model, Policy) else set[int]()
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    left = [weight.ndim < 2 or (id(weight) in head and not muon_head) for weight in trained]
    pairs = list(zip(trained, left, strict=True))
    return [weight for weight, adamw in pairs if adamw], [weight for weight, adamw in pairs if not adamw]


def _size(weights: Sequence[Tensor]) -> int:
    return sum(weight.numel() for weight in weights)


class Count(NamedTuple):
    """Weights of a module."""

    parameters: int
    trained: int


def count(module: nn.Module) -> Count:
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in module.parameters()]
    return Count(sum(n for n, _ in sizes), sum(n for n, learns in sizes if learns))


def clips(config: TrainPolicyConfig | TrainVideoConfig, gpus: int) -> int:
    """Clips of an update on so many GPUs; the batch size is that of each."""
    return config.trainer.batch_size * config.trainer.accumulate * gpus


def _gathered(model: nn.Module, layer_byte: int, at_once: int | None) -> int:
    """What is whole in the backward pass, the weights of the largest `at_once` layers, or of all.

    The encoders, units of their own, are gathered in no step.
    """
    units = [count(unit) for unit in (model.units() if isinstance(model, Policy) else layers(model))]
    rest = [whole - sum(part) for whole, part in zip(count(model), zip(*units, strict=True), strict=True)]
    at_work = [count(layer) for layer in layers(model)]
    largest = sorted((layer.parameters for layer in at_work), reverse=True)[:at_once]
    learning = max((layer.trained for layer in at_work), default=0)
    return FLOAT * sum(rest) + layer_byte * sum(largest) + (layer_byte + FLOAT) * learning


def report(config: TrainPolicyConfig | TrainVideoConfig, gpus: int) -> str:
    """What a training takes on `gpus` GPUs, as a table for a terminal."""
    plans = plan(config, gpus)
    found = plans.ddp
    ways = {"ddp": found} if gpus > 1 else {"one GPU": found}
    if gpus > 1 and config.optimizer.kind == "adamw":  # the only one that takes divided weights
        ways = plans._asdict()
    total = clips(config, gpus)
    notes = {
        "weights": f"{found.parameters / 1e6:,.1f} M parameters, frozen encoders included",
        "gradients": f"{found.trained / 1e6:,.1f} M are trained",
        "optimizer": f"state of {config.optimizer.kind}",
        "average": "exponential average of the weights (trainer.ema)",
        "activations": f"kept for the backward pass, {config.trainer.batch_size} of {total} clips an update",
        "update": "what Muon makes for the largest group of equal shapes, in the backward pass' place",
        "largest_block": "inside of one checkpointed layer" if found.largest_block else "no checkpointing",
        "gathered": "zero2: all layers; fsdp2: two of them; both: what is in none",
        "whole_copy": "for evaluations, which need no gradients and activations",
        "total": "at the most, beside what CUDA and the libraries use themselves",
    }
    lines = [f"{f'GiB on each of {gpus}':<19}" + "".join(f"{way:>9}" for way in ways)]
    for name, note in notes.items():
        undivided = name in ("gathered", "whole_copy") and "fsdp2" not in ways
        if undivided or (name == "update" and not found.update):
            continue
        sizes = "".join(f"{getattr(way, name) / GIB:9.2f}" for way in ways.values())
        lines.append(f"{name.replace('_', ' '):<19}{sizes}  {note}")
    return "\n".join(lines)


def _model(config: TrainPolicyConfig | TrainVideoConfig, size: tuple[int, int]) -> tuple[nn.Module, _Shape]:
    """The model that is trained, and what a batch for it looks like. Inside fake mode."""
    if isinstance(config, TrainVideoConfig):
        autoencoder = shaped_autoencoder(config)
        video = build_video_model(config.unet, config.diffusion, autoencoder, config.data.clip.frames)
        model: nn.Module = video
        context = video.unet.config.cross_attention_dim
    else:
        if config.video_run and not (config.video_run / "autoencoder").is_dir():
            config = replace(config, video_run=None)  # not trained yet; its UNet is of the same shape
        config = from_video_run(config)
        autoencoder = Pixels() if config.policy.kind == "image" else shaped_autoencoder(config)
        space = Workspace(
            size, (-1.0, -1.0, 0.0), (1.0, 1.0, 1.0), ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
        )
        model = build_policy(config, autoencoder, space)
        context = getattr(model.image_encoder, "dim", 1)
    check_size(size, autoencoder.factor)
    rows, columns = (side // autoencoder.factor for side in size)
    return model, _Shape(config.data.clip.frames, autoencoder.channels, rows, columns, context)


class _Shape(NamedTuple):
    frames: int
    channels: int
    rows: int
    columns: int
    context: int


def _batch(size: int, shape: _Shape) -> Batch:
    steps = shape.frames - 1
    return Batch(
        latents=torch.zeros(size, *shape[:-1]),
        context=torch.zeros(size, 1, shape.context),
        camera=Camera(torch.eye(3).repeat(size, 1, 1), torch.eye(4).repeat(size, 1, 1)),
        state=RobotState(torch.zeros(size, 3), torch.zeros(size)),
        actions=Actions(
            pixel=torch.zeros(size, steps, 2),
            height=torch.zeros(size, steps),
            position=torch.zeros(size, steps, 3),
            rotation=torch.eye(3).repeat(size, steps, 1, 1),
            gripper=torch.zeros(size, steps),
            valid=torch.ones(size, steps, dtype=torch.bool),
            has_rotation=torch.ones(size, steps, dtype=torch.bool),
        ),
    )


def _image_size(data: DataConfig) -> tuple[int, int]:
    if data.size is not None:
        return data.size
    if not data.rollouts[0].exists():
        raise UserError(
            f"the image size is not known: {data.rollouts[0]} does not exist; give --data.size ROWS COLUMNS"
        )
    return read_source(sources_of(data)[0], data, "error")[0].image_size
