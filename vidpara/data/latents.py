"""Cached latents: every frame of every episode is encoded once and memory-mapped from then on.

A cache is one shard of a source: some of its whole episodes, seen by one autoencoder. Its folder's name is the hash of
both, so a changed source or autoencoder never reads a stale cache.
"""

from __future__ import annotations

import itertools
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from filelock import FileLock
from torch import nn
from tqdm import tqdm

from vidpara.cli import UserError
from vidpara.data import cache_notes as notes
from vidpara.data import remote_cache
from vidpara.data.cached_frames import CachedFrames, opened, read_index, readable, seen_by_now
from vidpara.data.episode import Episode, OnError
from vidpara.data.team import ALONE, Team
from vidpara.types import Float, Tensor, UInt8

Encode = Callable[[Float[Tensor, "n 3 h w"]], Tensor]
BATCH, READ = 64, 64 * 256 * 256
"""Frames that are encoded at once; pixels that are read at once, as stored: that may be much larger."""
PIECE = 2**11
"""Frames after which an episode is divided among the processes, and noted as encoded."""
FILES = ("latents.f16", "context.f16")
NO_SHAPES: notes.Shapes = [[0, 0, 0], [0, 0]]
"""Of one frame's latents and context tokens where no frame can be read."""


class Piece(NamedTuple):
    """What one process encodes without a break: an episode, or some moments of a long one."""

    episode: Episode
    moments: range

    @property
    def name(self) -> str:
        """The episode's; of one that is divided with the first moment in a second line."""
        whole = len(self.moments) == len(self.episode)
        return self.episode.name if whole else f"{self.episode.name}\n{self.moments.start}"


def pieces_of(episode: Episode) -> list[Piece]:
    """The whole episode, divided where it is long."""
    moments = range(len(episode))
    return [Piece(episode, moments[first : first + PIECE]) for first in moments[::PIECE]]


def to_float(images: UInt8[np.ndarray, "n h w 3"]) -> Float[Tensor, "n 3 h w"]:
    """uint8 frames -> float in [-1, 1], channels first."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


def some_frames(episodes: Sequence[Episode], count: int) -> Float[Tensor, "n 3 h w"]:
    """About `count` frames, drawn evenly from all episodes that can be read, always the same ones.

    Raises:
        UserError: none can be read.
    """
    each = max(1, count // len(episodes))
    generator = torch.Generator().manual_seed(0)
    frames, missed = [], None
    for episode in episodes[:: max(1, len(episodes) // count)]:
        chosen = torch.randperm(len(episode), generator=generator)[:each]
        try:
            frames.append(to_float(episode.images(chosen.tolist())))
        except UserError as error:  # what to do about it is decided where all frames are encoded
            missed = missed or error
    if missed and not frames:
        raise missed
    return torch.cat(frames)


def cache_frames(
    episodes: Sequence[Episode],
    encode: Encode,
    embed: Encode,
    models: Sequence[nn.Module],
    folder: Path,
    team: Team = ALONE,
    on_error: OnError = "error",
    shared: str = "",
    digest: str = "",
) -> CachedFrames:
    """Encode the episodes of one shard, or map what an earlier call encoded, here or where the URL `shared` points.
    `digest` is that of the `models`, if it is known.

    Every process of a launch calls this with its own `team` and encodes a share of the episodes on its device, where
    `models` are put for that long. An interrupted call leaves a partial cache whose finished episodes the next one
    keeps, with any number of processes. Episodes whose frames cannot be read are not in `first` (`on_error` skip).

    Raises:
        UserError: frames cannot be read, or the cache cannot be written or is on a disk that this process does not see.
    """
    path = folder / notes.key_of(episodes, digest or notes.digest_of(models))
    folder.mkdir(parents=True, exist_ok=True)
    first_one = team.process_index == 0
    encoding = FileLock(path.with_suffix(".lock"))
    if shared:
        with FileLock(path.with_suffix(".fetching")):  # one process a machine copies, the others wait for it
            if not (path / remote_cache.INDEX).is_file():
                remote_cache.fetch(path, shared, encoding)
    with encoding if first_one else nullcontext():  # runs that start side by side want the same cache
        team.wait_for_everyone()
        index = read_index(path) if (path / "index.json").is_file() else None
        whole = bool(index and not index.get("unreadable"))
        finished = {*notes.finished(path), *(index["first"] if index else ())}  # of episodes and pieces
        team.wait_for_everyone()  # all have seen what is finished before one of them adds to it
        if not whole:
            with _on(team.device, models):
                _encode_share(episodes, encode, embed, path, finished, team, on_error)
        team.wait_for_everyone()
        if first_one and not whole:
            _finish(episodes, path, index, team)
        # others would take for whole what is there
        if first_one and shared and not read_index(path).get("unreadable"):
            remote_cache.push(path, shared)
        team.wait_for_everyone()
    seen_by_now(lambda: readable(path), team)
    if not (path / "index.json").is_file():
        raise UserError(
            f"{path} was encoded by another process and is not here; put --data.cache on a disk that all machines "
            "share, or encode on one machine first, with --data.store"
        )
    index = read_index(path)
    if unreadable := index.get("unreadable"):
        _left_out(unreadable, len(episodes), on_error, first_one)
    files = [(path / file, index[file.split(".")[0]]) for file in FILES]
    return opened(*files, index["first"], unreadable)


def _left_out(unreadable: Mapping[str, str], count: int, on_error: OnError, say: bool) -> None:
    """What `on_error` asks for with the episodes that could not be read, of `count`."""
    if on_error == "error":
        raise UserError(next(iter(unreadable.values())))
    for why in unreadable.values() if say else ():
        print(f"skipped: {why}", file=sys.stderr)
    if say:
        print(f"{len(unreadable)} of {count} were skipped (data.on_error skip)", file=sys.stderr)


def _encode_share(
    episodes: Sequence[Episode],
    encode: Encode,
    embed: Encode,
    path: Path,
    finished: set[str],
    team: Team,
    on_error: OnError,
) -> None:
    """Encode those of this process' pieces that are not `finished`, each into its own rows of the files.

    Every n-th of all pieces is its own, finished or not: on a network disk processes may differ in what they see.
    """
    path.mkdir(parents=True, exist_ok=True)
    rows, count = _rows(episodes), 0
    all_pieces = [piece for episode in episodes for piece in pieces_of(episode)]
    own = all_pieces[team.process_index :: team.num_processes]
    todo = [piece for piece in own if not {piece.name, piece.episode.name} & finished]
    for piece in tqdm(todo, "encode frames", unit="piece", disable=team.process_index > 0 or not todo):
        row, shapes = rows[piece.episode.name] + piece.moments.start, []
        try:
            for arrays in _encoded(piece, encode, embed, team.device):
                for name, array in zip(FILES, arrays, strict=True):
                    _write_rows(path / name, array, row)
                row, shapes = row + len(arrays[0]), [list(array.shape[1:]) for array in arrays]
            notes.add(path, "finished", team.process_index, {piece.name: shapes})
            count += 1
        except UserError as error:  # reading
            if on_error == "error":
                raise
            notes.add(path, "unreadable", team.process_index, {piece.episode.name: str(error)})
        except OSError as error:  # writing: of reading they are UserErrors
            raise UserError(
                f"cannot write the cache {path}: {error}; free space or set --data.cache, then give the same command "
                f"again: {len(own) - len(todo) + count} of its {len(own)} pieces are kept"
            ) from error


def _encoded(
    piece: Piece, encode: Encode, embed: Encode, device: torch.device
) -> Iterator[list[Float[np.ndarray, "n ..."]]]:
    """Latents and context tokens, a batch of frames at a time: a long video does not fit in memory."""
    together = min(BATCH, max(1, READ // math.prod(piece.episode.stored_size)))
    blocks = piece.episode.blocks(together, piece.moments)
    while images := list(itertools.islice(blocks, BATCH // together)):
        with torch.no_grad():
            frames = to_float(np.concatenate(images)).to(device)
            yield [part.half().cpu().numpy() for part in (encode(frames), embed(frames))]


def _finish(episodes: Sequence[Episode], path: Path, before: Mapping[str, Any] | None, team: Team) -> None:
    """The cache is whole: write its index, `before` the one of an earlier call that could not read all. Rows of
    episodes that cannot be read hold nothing.

    Raises:
        UserError: it is not: what another process encoded is not here, or went to another cache.
    """
    seen_by_now(lambda: not _lacking(episodes, *_noted(episodes, path, before)), team)
    shapes, unreadable = _noted(episodes, path, before)
    if lacking := _lacking(episodes, shapes, unreadable):
        raise UserError(
            f"{path} lacks {len(lacking)} of {len(episodes)} episodes ({lacking[0]}, ...), which another process was "
            "to encode; put --data.cache on a disk that all machines share, or encode on one machine first"
        )
    frames = sum(map(len, episodes)) if shapes else 0
    latents, context = ([frames, *shape] for shape in next(iter(shapes.values()), NO_SHAPES))
    for name, shape in zip(FILES, (latents, context), strict=True):
        (path / name).touch()
        os.truncate(path / name, 2 * math.prod(shape))
    first = {name: row for name, row in _rows(episodes).items() if name not in unreadable}
    index = {"latents": latents, "context": context, "first": first, "files": notes.files_of(episodes)}
    notes.write(path / "index.json", index | ({"unreadable": unreadable} if unreadable else {}))
    notes.remove(path)


def _noted(
    episodes: Sequence[Episode], path: Path, before: Mapping[str, Any] | None
) -> tuple[dict[str, notes.Shapes], dict[str, str]]:
    """Shapes of what is encoded, and why the others cannot be read, by episode."""
    found = notes.finished(path)
    if before:
        found |= {name: [before["latents"][1:], before["context"][1:]] for name in before["first"]}
    names = {each.name: [piece.name for piece in pieces_of(each)] for each in episodes}
    shapes = {
        name: found.get(name) or found[pieces[0]]
        for name, pieces in names.items()
        if name in found or all(piece in found for piece in pieces)
    }
    return shapes, {name: why for name, why in notes.unreadable(path).items() if name not in shapes}


def _lacking(episodes: Sequence[Episode], *noted: Mapping[str, object]) -> list[str]:
    return [episode.name for episode in episodes if not any(episode.name in those for those in noted)]


def _rows(episodes: Sequence[Episode]) -> dict[str, int]:
    """Row of each episode's first frame."""
    ends = list(accumulate(map(len, episodes)))
    assert len({episode.name for episode in episodes}) == len(episodes), "episodes of one source share a name"
    return {episode.name: end - len(episode) for episode, end in zip(episodes, ends, strict=True)}


def _write_rows(path: Path, array: np.ndarray, row: int) -> None:
    """Write frames at their place; what lies before it may be written later."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
    with os.fdopen(descriptor, "wb") as file:
        file.seek(row * array[0].nbytes)
        file.write(array.tobytes())


@contextmanager
def _on(device: torch.device, models: Sequence[nn.Module]) -> Iterator[None]:
    """The models on `device` inside the block, back where they were afterwards; those without tensors are nowhere."""
    before = [next((x.device for x in (*model.parameters(), *model.buffers())), device) for model in models]
    for model in models:
        model.to(device)
    try:
        yield
    finally:
        for model, place in zip(models, before, strict=True):
            model.to(place)
