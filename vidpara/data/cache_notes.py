"""What a cache of latents is of, and how far it is: its key, and the small JSON files beside the latents."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from torch import nn

from vidpara.data.episode import Episode

Shapes = list[list[int]]
"""Of one frame's latents and context tokens."""


def key_of(episodes: Sequence[Episode], models: Sequence[nn.Module]) -> str:
    digest = hashlib.sha256((_pictures(episodes) + _resized(episodes[0])).encode())
    for model in models:
        digest.update(type(model).__name__.encode())
        digest.update(str(getattr(model, "dim", "")).encode())
        for name, value in sorted(model.state_dict().items()):
            digest.update(name.encode())
            digest.update(value.detach().float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def name_stale(folder: Path, episodes: Sequence[Episode]) -> None:
    """Say which caches are of an earlier state of this source; they are never read again."""
    now = state_of(episodes)
    for index in sorted(folder.glob("*/index.json")):
        then = json.loads(index.read_text()).get("source", now)
        if then[0] == now[0] and then != now:
            print(f"{index.parent} is of {now[0]} as it was before; delete it to free space", file=sys.stderr)


def state_of(episodes: Sequence[Episode]) -> list[str]:
    """A source, and what changes with its pictures."""
    return [str(episodes[0].source.absolute()), hashlib.sha256(_pictures(episodes).encode()).hexdigest()]


def _pictures(episodes: Sequence[Episode]) -> str:
    return "\n".join(dict.fromkeys(episode.frames.fingerprint() for episode in episodes))


def _resized(episode: Episode) -> str:
    """The size that images are resized to; nothing where they are as stored."""
    return "" if episode.image_size == episode.stored_size else f" {episode.image_size}"


def finished(path: Path) -> dict[str, Shapes]:
    """By the name of every episode that some call has encoded."""
    return _together(path, "finished")


def unreadable(path: Path) -> dict[str, str]:
    """By the name of every episode that some call could not read: why."""
    encoded = finished(path)
    return {name: why for name, why in _together(path, "unreadable").items() if name not in encoded}


def add(
    path: Path, kind: Literal["finished", "unreadable"], process: int, content: Mapping[str, Any]
) -> None:
    """A line more in this process's own note: processes write side by side, and episodes are many."""
    with (path / f"{kind}-{os.getpid()}-{process}.json").open("a") as note:
        note.write(f"\n{json.dumps(content)}")


def remove(path: Path) -> None:
    """The notes of a cache that is whole."""
    for note in [*path.glob("finished-*.json"), *path.glob("unreadable-*.json")]:
        note.unlink()


def _together(path: Path, kind: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for note in path.glob(f"{kind}-*.json"):
        for line in note.read_text().splitlines():
            with contextlib.suppress(ValueError):  # half a line, where a process was killed
                found |= json.loads(line or "{}")
    return found


def write(path: Path, content: Mapping[str, Any]) -> None:
    beside = path.with_suffix(".part")
    beside.write_text(json.dumps(content))
    os.replace(beside, path)
