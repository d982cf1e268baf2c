"""Cached latents: every frame of every episode is encoded once and memory-mapped from then on.

A cache belongs to one source and one autoencoder; its folder name is the hash of both, so a changed source or
autoencoder never reads a stale cache.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from filelock import FileLock
from torch import nn
from tqdm import tqdm

from vidpara.cli import UserError
from vidpara.data.episode import Episode
from vidpara.types import Float, Tensor, UInt8

Encode = Callable[[Float[Tensor, "n 3 h w"]], Tensor]
BATCH = 64
FILES = ("latents.f16", "context.f16")


@runtime_checkable
class Team(Protocol):
    """The processes that encode together, as this one sees them (Accelerate's PartialState)."""

    process_index: int
    num_processes: int
    device: torch.device

    def wait_for_everyone(self) -> None: ...


class Alone(NamedTuple):
    """A team of one, on the CPU."""

    process_index: int = 0
    num_processes: int = 1
    device: torch.device = torch.device("cpu")

    def wait_for_everyone(self) -> None:
        """There is nobody to wait for."""


ALONE = Alone()


class CachedFrames(NamedTuple):
    """Latents and context tokens of a source's frames, all episodes one after another."""

    latents: Float[np.ndarray, "n c h w"]
    context: Float[np.ndarray, "n m d"]
    first: dict[str, int]
    """Row of each episode's first frame."""


def to_float(images: UInt8[np.ndarray, "n h w 3"]) -> Float[Tensor, "n 3 h w"]:
    """uint8 frames -> float in [-1, 1], channels first."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


def some_frames(episodes: Sequence[Episode], count: int) -> Float[Tensor, "n 3 h w"]:
    """About `count` frames, drawn evenly from all episodes, always the same ones."""
    each = max(1, count // len(episodes))
    generator = torch.Generator().manual_seed(0)
    frames = []
    for episode in episodes[:: max(1, len(episodes) // count)]:
        chosen = torch.randperm(len(episode), generator=generator)[:each]
        frames.append(to_float(episode.images(chosen.tolist())))
    return torch.cat(frames)


def cache_frames(
    episodes: Sequence[Episode],
    encode: Encode,
    embed: Encode,
    models: Sequence[nn.Module],
    folder: Path,
    team: Team = ALONE,
) -> CachedFrames:
    """Encode the episodes of one source, or map what an earlier call encoded.

    Every process of a launch calls this with its own `team` and encodes a share of the episodes on its device, where
    `models` are put for that long. An interrupted call leaves a partial cache whose finished episodes the next one
    keeps, with any number of processes.

    Raises:
        UserError: the cache cannot be written, or is on a disk that this process does not see.
    """
    path = folder / _key(episodes, models)
    folder.mkdir(parents=True, exist_ok=True)
    first_one = team.process_index == 0
    lock = FileLock(path.with_suffix(".lock")) if first_one else nullcontext()
    with lock:  # runs that start side by side want the same cache
        team.wait_for_everyone()
        whole, finished = (path / "index.json").is_file(), set(_finished(path))
        team.wait_for_everyone()  # all have seen what is finished before one of them adds to it
        if not whole:
            with _on(team.device, models):
                _encode_share(episodes, encode, embed, path, finished, team)
        team.wait_for_everyone()
        if first_one and not whole:
            _finish(episodes, path)
            _name_stale(folder, episodes)
        team.wait_for_everyone()
    if not (path / "index.json").is_file():
        raise UserError(
            f"{path} was encoded by another process and is not here; put --data.cache on a disk that all machines share"
        )
    index = json.loads((path / "index.json").read_text())
    return CachedFrames(
        np.memmap(path / "latents.f16", np.float16, "r", shape=tuple(index["latents"])),
        np.memmap(path / "context.f16", np.float16, "r", shape=tuple(index["context"])),
        index["first"],
    )


def _encode_share(
    episodes: Sequence[Episode], encode: Encode, embed: Encode, path: Path, finished: set[str], team: Team
) -> None:
    """Encode every n-th of the episodes that are not `finished`, each into its own rows of the files."""
    path.mkdir(parents=True, exist_ok=True)
    rows = _rows(episodes)
    todo = [episode for episode in episodes if episode.name not in finished]
    note = path / f"finished-{os.getpid()}-{team.process_index}.json"
    mine: dict[str, list[list[int]]] = {}
    for episode in tqdm(
        todo[team.process_index :: team.num_processes],
        desc="encode frames",
        unit="demo",
        disable=team.process_index > 0 or not todo,
    ):
        try:
            row, shapes = rows[episode.name], []
            for chunk in _chunks(episode):
                with torch.no_grad():
                    frames = chunk.to(team.device)
                    arrays = [part.half().cpu().numpy() for part in (encode(frames), embed(frames))]
                for name, array in zip(FILES, arrays, strict=True):
                    _write_rows(path / name, array, row)
                row, shapes = row + len(chunk), [list(array.shape[1:]) for array in arrays]
            mine[episode.name] = shapes
            _write(note, mine)
        except OSError as error:
            raise UserError(
                f"cannot write the cache {path}: {error}; free space or set --data.cache, then give the same command "
                f"again: {len(finished) + len(mine)} of {len(episodes)} demos are kept"
            ) from error


def _finish(episodes: Sequence[Episode], path: Path) -> None:
    """The cache is whole: write its index."""
    latents, context = next(iter(_finished(path).values()))
    frames = sum(map(len, episodes))
    index = {"latents": [frames, *latents], "context": [frames, *context], "first": _rows(episodes)}
    _write(path / "index.json", {**index, "source": _state(episodes)})
    for note in path.glob("finished-*.json"):
        note.unlink()


def _name_stale(folder: Path, episodes: Sequence[Episode]) -> None:
    """Say which caches are of an earlier state of this source; they are never read again."""
    now = _state(episodes)
    for index in sorted(folder.glob("*/index.json")):
        then = json.loads(index.read_text()).get("source", now)
        if then[0] == now[0] and then != now:
            print(f"{index.parent} is of {now[0]} as it was before; delete it to free space", file=sys.stderr)


def _state(episodes: Sequence[Episode]) -> list[str]:
    """A source, and what changes with its pictures."""
    return [str(episodes[0].source.absolute()), hashlib.sha256(_pictures(episodes).encode()).hexdigest()]


def _pictures(episodes: Sequence[Episode]) -> str:
    return "\n".join(dict.fromkeys(episode.frames.fingerprint() for episode in episodes))


def _finished(path: Path) -> dict[str, list[list[int]]]:
    """Shapes of one frame's latents and context by the name of every episode that some call has encoded."""
    found = {}
    for note in path.glob("finished-*.json"):
        found |= json.loads(note.read_text())
    return found


def _rows(episodes: Sequence[Episode]) -> dict[str, int]:
    """Row of each episode's first frame."""
    ends = list(accumulate(map(len, episodes)))
    return {episode.name: end - len(episode) for episode, end in zip(episodes, ends, strict=True)}


def _write_rows(path: Path, array: np.ndarray, row: int) -> None:
    """Write frames at their place; what lies before it may be written later."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
    with os.fdopen(descriptor, "wb") as file:
        file.seek(row * array[0].nbytes)
        file.write(array.tobytes())


@contextmanager
def _on(device: torch.device, models: Sequence[nn.Module]) -> Iterator[None]:
    """The models on `device` inside the block, back on the CPU afterwards."""
    for model in models:
        model.to(device)
    try:
        yield
    finally:
        for model in models:
            model.to("cpu")


def _chunks(episode: Episode) -> Iterator[Float[Tensor, "n 3 h w"]]:
    """An episode's frames, a batch at a time: a long video does not fit in memory."""
    for first in range(0, len(episode), BATCH):
        yield to_float(episode.images(range(first, min(first + BATCH, len(episode)))))


def _key(episodes: Sequence[Episode], models: Sequence[nn.Module]) -> str:
    digest = hashlib.sha256((_pictures(episodes) + _resized(episodes[0])).encode())
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
