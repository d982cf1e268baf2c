"""A source's cached latents in shards: encoded, fetched and kept one by one, each some whole episodes.

A source that grows keeps the shards that were full, and an encoding that is stopped has put those it finished into the
store, where machines fetch the ones they lack.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from torch import nn

from vidpara.cli import UserError
from vidpara.data import cache_notes as notes
from vidpara.data.cached_frames import CachedFrames
from vidpara.data.episode import Episode, OnError
from vidpara.data.latents import Encode, cache_frames
from vidpara.data.team import ALONE, Team

FRAMES = 2**16
"""From which a shard is full: at 256 x 256, half a gigabyte of latents."""


def cache_source(
    episodes: Sequence[Episode],
    encode: Encode,
    embed: Encode,
    models: Sequence[nn.Module],
    folder: Path,
    team: Team = ALONE,
    on_error: OnError = "error",
    shared: str = "",
    digest: str = "",
) -> dict[str, CachedFrames]:
    """The shard of every episode of one source that can be read, by the episode's name (see `cache_frames`).

    `digest` is that of the `models`, if it is known.

    Raises:
        UserError: frames cannot be read, or the caches cannot be written or are on a disk that this process does not
            see.
    """
    known, digest = set(folder.glob("*/index.json")), digest or notes.digest_of(models)
    found: dict[str, CachedFrames] = {}
    why = ""
    for shard in shards(episodes):
        cached = cache_frames(shard, encode, embed, models, folder, team, on_error, shared, digest)
        found |= dict.fromkeys(cached.first, cached)
        why = why or next(iter((cached.unreadable or {}).values()), "")
    if not found:
        raise UserError(f"{episodes[0].source}: no episode can be read; {why}")
    if team.process_index == 0 and set(folder.glob("*/index.json")) - known:
        notes.name_stale(folder)
    return found


def shards(episodes: Sequence[Episode]) -> Iterator[list[Episode]]:
    """The episodes in their order, in pieces of `FRAMES` frames and what the last episode has more."""
    piece: list[Episode] = []
    frames = 0
    for episode in episodes:
        piece.append(episode)
        frames += len(episode)
        if frames >= FRAMES:
            yield piece
            piece, frames = [], 0
    if piece:
        yield piece
