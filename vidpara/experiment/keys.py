"""What determines a step's result, as a short hash: settings, the content of files, and the steps before it."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vidpara.cli import UserError
from vidpara.config.groups import HOW
from vidpara.data.rollouts import SUFFIXES
from vidpara.data.source_file import sources_of

BY_CONTENT = {"video_run", "policy", "data.rollouts"}
"""Settings that name a path: the hash takes what lies there."""
MODELS = ("unet", "autoencoder", "image_encoder", "vit")
BY_CONTENT_HERE = {"data.cameras", *(f"{section}.weights" for section in MODELS)}
"""The same where there is something at the path; weights may also be a hub id, which counts as it is written."""
READ = (
    "*.safetensors", "*.safetensors.index*.json", "config.json", "workspace.json", "model_index.json",
    "scheduler_config.json", "preprocessor_config.json",
)  # fmt: skip
"""Files of a policy or of weights that loading reads, in whichever folder of theirs."""
BLOCK, BLOCKS = 2**16, 16
"""Bytes, and how many of such blocks are read of a folder's larger files."""


def key(stage: str, config: Any, before: Sequence[str], contents: Sequence[str]) -> str:
    """Of a stage with these settings, the keys of the steps before it, and digests of the files that it reads."""
    determined = [stage, changed(config), list(before), list(contents)]
    return hashlib.sha256(json.dumps(determined, sort_keys=True, default=str).encode()).hexdigest()[:10]


def changed(config: Any, prefix: str = "") -> dict[str, Any]:
    """Settings that differ from their default, so that a new setting whose default changes nothing keeps the hash."""
    found = {}
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        default = item.default_factory() if item.default_factory is not dataclasses.MISSING else item.default
        if dataclasses.is_dataclass(value):
            found[item.name] = changed(value, f"{prefix}{item.name}.")
        elif value != default and not _is_left_out(f"{prefix}{item.name}", value):
            found[item.name] = value
    return {name: value for name, value in found.items() if value != {}}


def _is_left_out(setting: str, value: Any) -> bool:
    """Whether a setting changes no result, or is the path of what `contents` reads."""
    return setting in HOW | BY_CONTENT or (setting in BY_CONTENT_HERE and Path(value).exists())


def contents(config: Any, collected: bool, given: bool = False) -> list[str]:
    """Digests of what a stage's settings name by path: its data, unless they are `collected` first, and what describes
    them; cameras; weights that are a folder here; its stage one, if that is `given` and no step before it.
    """
    found: list[str] = []
    if data := getattr(config, "data", None):
        if not collected:
            found += map(digest, data.rollouts)
            described = [source for source in sources_of(data) if source.path != source.name]
            found += [digest(path) for each in described for path in (each.path, each.cameras) if path]
        found += [f"cameras {digest(data.cameras)}"] if data.cameras else []
    for section in MODELS:
        weights = getattr(getattr(config, section, None), "weights", None)
        found += [f"{section} {digest_folder(Path(weights))}"] if weights and Path(weights).exists() else []
    if given and (run := getattr(config, "video_run", None)):
        found.append(digest_folder(run))
    return found


def digest(path: Path) -> str:
    """Of a file's content, or of the names, sizes and contents in a folder. Hidden files are no data: the hub's notes
    of a download differ from machine to machine.
    """
    if path.is_dir():
        names = {file.relative_to(path): file for file in path.rglob("*") if file.is_file()}
        seen = (name for name in sorted(names) if not any(part.startswith(".") for part in name.parts))
        files = [(str(name), names[name].stat().st_size, _content(names[name])) for name in seen]
        return hashlib.sha256(json.dumps(files).encode()).hexdigest()
    return _content(path, whole=True) if path.is_file() else f"missing {path}"


def _content(file: Path, whole: bool = False) -> str:
    """Digest of what is in a file; of a large one that need not be read `whole`, of blocks from its head to its tail.

    HDF5 is read whole: its actions are a few kB between images, where blocks would miss them. In what is compressed an
    edit moves or changes all that follows.
    """
    state = file.stat()
    whole = whole or state.st_size <= BLOCK * BLOCKS or file.suffix in SUFFIXES
    return _read(file, state.st_mtime_ns, state.st_size, whole)


@functools.cache
def _read(file: Path, modified: int, size: int, whole: bool) -> str:
    """`modified` is there for the cache alone: a file that has changed since is read again."""
    with file.open("rb") as content:
        if whole:
            return hashlib.file_digest(content, "sha256").hexdigest()
        found = hashlib.sha256()
        for block in range(BLOCKS):
            content.seek(block * (size - BLOCK) // (BLOCKS - 1))
            found.update(content.read(BLOCK))
        return found.hexdigest()


def digest_folder(folder: Path) -> str:
    """All weights and settings in it: a finished policy, or pretrained weights. Whatever else is written there, results
    or checkpoints to resume from, makes it no other.

    Raises:
        UserError: there is no such folder, or nothing of the kind in it.
    """
    found = {path for name in READ for path in folder.rglob(name)} | set(folder.glob("config.yaml"))
    files = sorted(path for path in found if not path.relative_to(folder).parts[0].startswith("checkpoint-"))
    if not files:
        raise UserError(
            f"{folder} holds no .safetensors, config.json or config.yaml: it is no finished policy and no weights"
        )
    return " ".join(map(digest, files))
