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
from vidpara.files import write_atomically

VERSION = 1
"""Raise it where the same pictures and models come to give other latents."""
Shapes = list[list[int]]
"""Of one frame's latents and context tokens."""


def digest_of(models: Sequence[nn.Module]) -> str:
    """Text that changes with the models' weights, and with `VERSION`. Of large ones this takes seconds."""
    digest = hashlib.sha256(str(VERSION).encode())
    for model in models:
        digest.update(type(model).__name__.encode())
        digest.update(f"{getattr(model, 'dim', '')} {getattr(model, 'condition_scale', '')}".encode())
        for name, value in sorted(model.state_dict().items()):
            digest.update(name.encode())
            digest.update(value.detach().float().cpu().numpy().tobytes())
    return digest.hexdigest()


def key_of(episodes: Sequence[Episode], models: str) -> str:
    """The name of the cache of these episodes, each with its length: which of a source's there are depends on
    `on_error` and the length of a clip.
    """
    pictures = [f"{each.name} {len(each)} {each.frames.fingerprint()}" for each in episodes]
    return hashlib.sha256("\n".join([models, _resized(episodes[0]), *pictures]).encode()).hexdigest()[:16]


def files_of(episodes: Sequence[Episode]) -> dict[str, list[int]]:
    """The files that the episodes' frames are read from, as they are now: bytes, and nanoseconds of the last change."""
    files = dict.fromkeys(episode.frames.file.absolute() for episode in episodes)
    return {str(file): [file.stat().st_size, file.stat().st_mtime_ns] for file in files if file.is_file()}


def name_stale(folder: Path) -> None:
    """Say which caches are of files that have changed since, or of another version of this software; they are never
    read again.
    """
    for index in sorted(folder.glob("*/index.json")):
        if index.parent.suffix:  # a copy from the store that is not whole
            continue
        try:
            files = json.loads(index.read_text()).get("files")
        except (OSError, ValueError):  # being deleted, or damaged: whoever wants it is told
            continue
        if files is None or any(_changed(Path(file), then) for file, then in files.items()):
            of = f"of {next(iter(files))} as it was before" if files else "of an earlier version of vidpara"
            print(f"{index.parent} is {of}; delete it to free space", file=sys.stderr)


def _changed(file: Path, then: list[int]) -> bool:
    """A file of another machine is not known to have changed."""
    return file.is_file() and [file.stat().st_size, file.stat().st_mtime_ns] != then


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
    write_atomically(path, json.dumps(content).encode())
