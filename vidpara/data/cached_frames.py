"""A cache as it is read: two files of arrays, mapped, and an index that says what lies where."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vidpara.cli import UserError
from vidpara.data.team import Team
from vidpara.types import Float

PATIENCE = 75.0
"""Seconds until what another machine wrote to a network disk must be seen here (NFS: `acdirmax` is 60 by default)."""


class CachedFrames(NamedTuple):
    """Latents and context tokens of a shard's frames, all episodes one after another."""

    latents: Float[np.ndarray, "n c h w"]
    context: Float[np.ndarray, "n m d"]
    first: dict[str, int]
    """Row of each episode's first frame."""
    unreadable: dict[str, str] | None = None
    """Why, of each episode that is not there."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Files that are mapped are mapped again: a worker that is not forked would be sent what they hold."""
        parts = (self.latents, self.context)
        if not all(isinstance(part, np.memmap) for part in parts):
            return CachedFrames, tuple(self)
        files = [(Path(part.filename), list(part.shape)) for part in parts]
        return opened, (*files, self.first, self.unreadable)


def opened(
    latents: tuple[Path, list[int]],
    context: tuple[Path, list[int]],
    first: dict[str, int],
    unreadable: dict[str, str] | None,
) -> CachedFrames:
    """Map both files, each of its shape."""
    return CachedFrames(_mapped(*latents), _mapped(*context), first, unreadable)


def _mapped(file: Path, shape: list[int]) -> Float[np.ndarray, "n ..."]:
    if not shape[0]:  # no episode of the shard can be read
        return np.zeros(shape, np.float16)
    return np.memmap(file, np.float16, "r", shape=tuple(shape))


def read_index(path: Path) -> dict[str, Any]:
    """What the cache says of itself.

    Raises:
        UserError: it cannot be read, or a file has another size than it says.
    """
    try:
        index = json.loads((path / "index.json").read_text())
        sizes = {name: 2 * math.prod(index[name]) for name in ("latents", "context")}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path}/index.json is damaged ({error!r}); delete {path}, it is made anew"
        ) from error
    for name, size in sizes.items():
        if (found := _size(path / f"{name}.f16")) != size:
            raise UserError(
                f"{path}/{name}.f16 has {found} bytes, its index says {size}; delete {path}, it is made anew"
            )
    return index


def _size(file: Path) -> int:
    return file.stat().st_size


def readable(path: Path) -> bool:
    """Whether `read_index` can read it. On a network disk an index may be seen before the size of what it is of."""
    try:
        read_index(path)
    except (UserError, OSError):
        return False
    return True


def seen_by_now(there: Callable[[], bool], team: Team) -> bool:
    """Whether it is there, perhaps after a while: what another machine wrote shows only when what this one remembers of
    the folder has expired.
    """
    ends = time.monotonic() + (PATIENCE if team.num_processes > 1 else 0)
    while not (found := there()) and time.monotonic() < ends:
        time.sleep(0.2)
    return found
