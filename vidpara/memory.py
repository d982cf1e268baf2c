"""How much memory a training takes on each GPU, counted before anything is allocated.

The model is built and run forward with fake tensors, which have shapes and no contents. Weights, gradients, optimiser
and average follow from the parameters; activations are what autograd saves in the forward pass, storage by storage.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils import checkpoint
from torch.utils._pytree import tree_leaves

from vidpara.build import build_autoencoder, build_policy, build_video_model, from_video_run
from vidpara.cli import UserError
from vidpara.config import DataConfig, TrainPolicyConfig, TrainVideoConfig
from vidpara.data.source_file import sources_of
from vidpara.data.sources import read_source
from vidpara.models.autoencoder import Autoencoder, PatchPCA, Pixels
from vidpara.types import Actions, Batch, Camera, Start, Workspace

FLOAT = 4
"""Bytes of a float32: weights, gradients, moments and the average are kept in it; autocast makes the bf16 copies."""
MOMENTS = {"adamw": 8, "adamw8bit": 2, "muon": 4}
"""Bytes of the optimiser's state a trained weight."""
GIB = 2**30


class Plan(NamedTuple):
    """Bytes on each GPU. `weights` are all of them, frozen encoders included."""

    parameters: int
    trained: int
    weights: int
    gradients: int
    optimizer: int
    average: int
    activations: int
    largest_block: int
    """What one checkpointed layer or block needs while it is computed again."""

    @property
    def total(self) -> int:
        return sum(self[2:])

    def divided(self, gpus: int) -> Plan:
        """The same under FSDP2: what is kept for each weight is divided; the layer at work is gathered whole."""
        kept = ("weights", "gradients", "optimizer", "average")
        return self._replace(**{name: getattr(self, name) // gpus for name in kept})


def plan(config: TrainPolicyConfig | TrainVideoConfig) -> Plan:
    """The memory that one step of this training takes on one GPU, or on each of several under DDP.

    Raises:
        UserError: the image size is not known, because there are no rollouts yet and `data.size` is not set.
    """
    size = _image_size(config.data)
    half = config.trainer.precision != "no"  # `auto` is bf16 on every GPU that one would plan for
    with FakeTensorMode():
        model, shape = _model(config, size)
        batch = _batch(config.trainer.batch_size, shape)
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            saved = activations(model.train(), lambda: model(batch))
        sizes = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    parameters, trained = sum(n for n, _ in sizes), sum(n for n, learns in sizes if learns)
    return Plan(
        parameters,
        trained,
        weights=FLOAT * parameters,
        gradients=FLOAT * trained,
        optimizer=MOMENTS[config.optimizer.kind] * trained,
        average=FLOAT * trained if config.trainer.ema else 0,
        activations=saved.bytes,
        largest_block=saved.largest,
    )


def report(config: TrainPolicyConfig | TrainVideoConfig, gpus: int) -> str:
    """What a training takes on `gpus` GPUs, as a table for a terminal."""
    found = plan(config)
    ways = {"ddp": found, "fsdp2": found.divided(gpus)} if gpus > 1 else {"one GPU": found}
    notes = {
        "weights": f"{found.parameters / 1e6:,.1f} M parameters, frozen encoders included",
        "gradients": f"{found.trained / 1e6:,.1f} M are trained",
        "optimizer": f"state of {config.optimizer.kind}",
        "average": "exponential average of the weights (trainer.ema)",
        "activations": f"kept for the backward pass, {config.trainer.batch_size} clips",
        "largest_block": "inside of one checkpointed layer" if found.largest_block else "no checkpointing",
        "total": "beside what CUDA and the libraries use themselves",
    }
    lines = [f"{f'GiB on each of {gpus}':<19}" + "".join(f"{way:>9}" for way in ways)]
    for name, note in notes.items():
        sizes = "".join(f"{getattr(way, name) / GIB:9.2f}" for way in ways.values())
        lines.append(f"{name.replace('_', ' '):<19}{sizes}  {note}")
    return "\n".join(lines)


class Saved:
    """Storages that autograd or a checkpointed region keeps for the backward pass, weights apart."""

    def __init__(self, model: nn.Module, known: Mapping[int, Tensor] | None = None) -> None:
        self._own = {value.untyped_storage()._cdata for value in (*model.parameters(), *model.buffers())}
        self._own.update(known or ())
        self._kept: dict[int, Tensor] = {}
        self._model = model
        self.largest = 0
        """Most that the inside of one checkpointed region keeps while it is computed again."""

    @property
    def bytes(self) -> int:
        return sum(tensor.untyped_storage().nbytes() for tensor in self._kept.values())

    def add(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in self._own:
            self._kept[storage._cdata] = tensor  # kept alive, so that no other storage gets its number
        return tensor

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Count what is saved inside the block. Checkpointed regions keep their inputs, in closures, and no more."""
        original = checkpoint.checkpoint

        def region(function: Any, *inputs: Any, use_reentrant: bool = False, **named: Any) -> Any:
            for value in tree_leaves((inputs, named)):
                if isinstance(value, Tensor):
                    self.add(value)
            inside = Saved(self._model, self._kept)
            with torch.autograd.graph.saved_tensors_hooks(inside.add, lambda tensor: tensor):
                output = function(*inputs, **named)
            self.largest = max(self.largest, inside.bytes)
            return output

        checkpoint.checkpoint = region
        try:
            with torch.autograd.graph.saved_tensors_hooks(self.add, lambda tensor: tensor):
                yield
        finally:
            checkpoint.checkpoint = original


def activations(model: nn.Module, run: Callable[[], Any]) -> Saved:
    """What `run()`, a forward of `model`, keeps for the backward pass."""
    saved = Saved(model)
    with saved.watching():
        run()
    return saved


def _model(config: TrainPolicyConfig | TrainVideoConfig, size: tuple[int, int]) -> tuple[nn.Module, _Shape]:
    """The model that is trained, and what a batch for it looks like. Inside fake mode."""
    if isinstance(config, TrainVideoConfig):
        autoencoder = shaped_autoencoder(config)
        video = build_video_model(config.unet, config.diffusion, autoencoder, config.data.clip.frames)
        model: nn.Module = video
        context = video.unet.config.cross_attention_dim
    else:
        if config.video_run and not (config.video_run / "unet").is_dir():
            config = replace(config, video_run=None)  # not trained yet; its UNet is of the same shape
        config = from_video_run(config)
        autoencoder = Pixels() if config.policy.kind == "image" else shaped_autoencoder(config)
        space = Workspace(
            size, (-1.0, -1.0, 0.0), (1.0, 1.0, 1.0), ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
        )
        model = build_policy(config, autoencoder, space)
        context = getattr(model.image_encoder, "dim", 1)
    rows, columns = (side // autoencoder.factor for side in size)
    return model, _Shape(config.data.clip.frames, autoencoder.channels, rows, columns, context)


class _Shape(NamedTuple):
    frames: int
    channels: int
    rows: int
    columns: int
    context: int


def shaped_autoencoder(config: TrainPolicyConfig | TrainVideoConfig) -> Autoencoder:
    """The autoencoder of a configuration; a PCA, which is fitted on rollouts, with zeros of its shape instead."""
    chosen = config.autoencoder
    if chosen.kind == "patch_pca":
        values = 3 * chosen.patch**2
        return PatchPCA(
            torch.zeros(values, chosen.channels), torch.zeros(values), torch.ones(chosen.channels)
        )
    return build_autoencoder(chosen)


def _batch(size: int, shape: _Shape) -> Batch:
    steps = shape.frames - 1
    return Batch(
        latents=torch.zeros(size, *shape[:-1]),
        context=torch.zeros(size, 1, shape.context),
        camera=Camera(torch.eye(3).repeat(size, 1, 1), torch.eye(4).repeat(size, 1, 1)),
        start=Start(torch.zeros(size, 3), torch.zeros(size)),
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
