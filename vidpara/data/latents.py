"""Cached latents: every frame of every episode is encoded once and memory-mapped from then on.

A cache belongs to one source and one autoencoder; its folder name is the hash of both, so a changed source or
autoencoder never reads a stale cache.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from filelock import FileLock
from torch import nn
from tqdm import tqdm

from vidpara.data.episode import Episode
from vidpara.types import Float, Tensor, UInt8

Encode = Callable[[Float[Tensor, "n 3 h w"]], Tensor]
BATCH = 64


class CachedFrames(NamedTuple):
    """Latents and context tokens of a source's frames, all episodes one after another."""

    latents: Float[np.ndarray, "n c h w"]
    context: Float[np.ndarray, "n m d"]
    first: dict[str, int]
    """Row of each episode's first frame."""


def to_float(images: UInt8[np.ndarray, "n h w 3"]) -> Float[Tensor, "n 3 h w"]:
    """uint8 frames -> float in [-1, 1], channels first."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


def cache_frames(
    episodes: Sequence[Episode], encode: Encode, embed: Encode, models: Sequence[nn.Module], folder: Path
) -> CachedFrames:
    """Encode the episodes of one source, or map what an earlier call encoded.

    An interrupted call leaves a partial cache whose finished episodes the next one keeps.
    """
    path = folder / _key(episodes, models)
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):  # runs that start side by side want the same cache
        if not (path / "index.json").is_file():
            _encode_all(episodes, encode, embed, path)
    index = json.loads((path / "index.json").read_text())
    return CachedFrames(
        np.memmap(path / "latents.f16", np.float16, "r", shape=tuple(index["latents"])),
        np.memmap(path / "context.f16", np.float16, "r", shape=tuple(index["context"])),
        index["first"],
    )


def _encode_all(episodes: Sequence[Episode], encode: Encode, embed: Encode, path: Path) -> None:
    path.mkdir(parents=True, exist_ok=True)
    frames = sum(map(len, episodes))
    done: dict[str, int] = {}
    with (path / "latents.f16").open("ab") as latents, (path / "context.f16").open("ab") as context:
        progress = path / "progress.json"
        state = json.loads(progress.read_text()) if progress.is_file() else {"done": {}, "bytes": [0, 0]}
        done = state["done"]
        for file, size in zip((latents, context), state["bytes"], strict=True):
            file.truncate(size)
        row = sum(len(e) for e in episodes if e.name in done)
        shapes: list[tuple[int, ...]] = [tuple(s) for s in state.get("shapes", [])]
        for episode in tqdm(
            episodes, desc="encode frames", unit="demo", initial=0, disable=len(done) == len(episodes)
        ):
            if episode.name in done:
                continue
            with torch.no_grad():
                parts = [(encode(chunk), embed(chunk)) for chunk in _chunks(episode)]
            arrays = [torch.cat(part).half().cpu().numpy() for part in zip(*parts, strict=True)]
            shapes = [array.shape[1:] for array in arrays]
            for file, array in zip((latents, context), arrays, strict=True):
                file.write(array.tobytes())
                file.flush()
            done[episode.name] = row
            row += len(episode)
            _write(progress, {"done": done, "bytes": [latents.tell(), context.tell()], "shapes": shapes})
    _write(
        path / "index.json", {"latents": [frames, *shapes[0]], "context": [frames, *shapes[1]], "first": done}
    )


def _chunks(episode: Episode) -> Iterator[Float[Tensor, "n 3 h w"]]:
    """An episode's frames, a batch at a time: a long video does not fit in memory."""
    for first in range(0, len(episode), BATCH):
        yield to_float(episode.images(range(first, min(first + BATCH, len(episode)))))


def _key(episodes: Sequence[Episode], models: Sequence[nn.Module]) -> str:
    pictures = dict.fromkeys(episode.frames.fingerprint() for episode in episodes)
    digest = hashlib.sha256(("\n".join(pictures) + _resized(episodes[0])).encode())
    for model in models:
        digest.update(type(model).__name__.encode())
        digest.update(str(getattr(model, "dim", "")).encode())
        for name, value in sorted(model.state_dict().items()):
            digest.update(name.encode())
            digest.update(value.detach().float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def _resized(episode: Episode) -> str:
    """The size that images are resized to; nothing where they are as stored."""
    return "" if episode.image_size == episode.stored_size else f" {episode.image_size}"


def _write(path: Path, content: dict) -> None:
    beside = path.with_suffix(".part")
    beside.write_text(json.dumps(content))
    os.replace(beside, path)
