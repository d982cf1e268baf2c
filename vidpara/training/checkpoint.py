"""Checkpoints: folders `checkpoint-STEP` of safetensors and one JSON file, complete or absent.

Where weights are divided among processes, each may write its own part of the same folder.

A checkpoint is written beside its place (`.part`) and renamed, and an old one is renamed (`.old`) before it is deleted,
so a folder without a suffix is whole, unless somebody copied or deleted a part of it.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from safetensors import SafetensorError
from torch import Tensor

from vidpara import cli
from vidpara.cli import UserError
from vidpara.config.groups import HOW, RETIRED
from vidpara.files import sync
from vidpara.training.tensor_files import ALONE, Writer, store, stored

LENGTH = frozenset({"trainer.steps"})
"""Settings that may always change beside those of `HOW`; whether a run is past its new length is checked apart."""
ADJUSTABLE = LENGTH | {"optimizer.lr", "optimizer.backbone_lr", "trainer.precision"}
"""Settings that a run with steps left may change: what one does about a loss that is not finite."""


class Checkpoint(NamedTuple):
    """Tensors by file and name, and the small numbers beside them."""

    step: int
    config: str
    tensors: Mapping[str, Mapping[str, Tensor]]
    state: Mapping[str, Any]


def save(run: Path, checkpoint: Checkpoint, keep: int, writer: Writer = ALONE) -> None:
    """Write `checkpoint` below `run`, then delete all but the newest `keep` (at least one).

    Of several writers every one calls this with its own part.

    Raises:
        UserError: the disk is full or cannot be written; earlier checkpoints are as they were.
    """
    final = run / f"checkpoint-{checkpoint.step:08d}"
    part = final.with_suffix(".part")
    try:
        if writer.rank == 0:
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(parents=True)
        writer.wait()
        for kind, tensors in checkpoint.tensors.items():
            sync(store(part, kind, tensors, writer))
        writer.wait()
        if writer.rank > 0:
            return
        _describe(part, checkpoint, writer.ranks)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(part, ignore_errors=True)
        reason = str(error).removeprefix("Error while serializing: I/O error: ")
        before = latest(run)
        rest = f"{before.name} is intact" if before else "there is no earlier one"
        raise UserError(
            f"cannot write {final}: {reason}; {rest}. Free space, then give the same command again"
        ) from error
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    _remove(final)
    part.rename(final)
    sync(run)
    for old in _whole(run)[: -max(1, keep)]:
        _remove(old)


def latest(run: Path) -> Path | None:
    """The newest whole checkpoint of `run`.

    Raises:
        UserError: there are only parts of one.
    """
    if whole := _whole(run):
        return whole[-1]
    if parts := _folders(run):
        raise UserError(
            f"{parts[-1]} is not whole, it has no state.json, and there is no other checkpoint; copy the run anew, or "
            "delete that folder to start from the beginning"
        )
    return None


def step_of(folder: Path) -> int:
    """The finished steps of a checkpoint folder."""
    return int(folder.name.partition("-")[2])


def load(folder: Path) -> Checkpoint:
    """Open a checkpoint folder, whoever wrote it; each tensor is read when it is asked for.

    Raises:
        UserError: a file is missing or unreadable.
    """
    try:
        record = json.loads((folder / "state.json").read_text())
        tensors = {kind: stored(folder, kind, record.get("writers", 1)) for kind in record["files"]}
        config = (folder / "config.yaml").read_text()
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        raise UserError(
            f"{folder} is damaged ({error}); delete it to go on from the checkpoint before it"
        ) from error
    return Checkpoint(record["step"], config, tensors, record["state"])


def clean(run: Path) -> None:
    """Delete what an interrupted save left."""
    for left in (*run.glob("checkpoint-*.part"), *run.glob("checkpoint-*.old")):
        shutil.rmtree(left, ignore_errors=True)


def check_config(
    folder: Path, saved: str, resolved: str, defaults: str = "", free: frozenset[str] = LENGTH
) -> list[str]:
    """A checkpoint goes on only with the configuration that made it; settings newer than it had their `defaults`.

    Those of `HOW` and `free` may differ; returned are those of `free` that do, with both values.

    Raises:
        UserError: others differ; it names each with both values.
    """
    usual, old, new = (cli.flatten(yaml.safe_load(text) or {}) for text in (defaults, saved, resolved))
    old = usual | old
    changed = {
        key: f"{key} (was {old.get(key, 'absent')}, now {new.get(key, 'absent')})"
        for key in sorted(old.keys() | new.keys())
        if key not in HOW | RETIRED and (key in old, old.get(key)) != (key in new, new.get(key))
    }
    if differing := [words for key, words in changed.items() if key not in free]:
        raise UserError(
            f"{folder} was made with another configuration: {', '.join(differing)}. Choose another --run, "
            f"delete {folder.parent}, or give the old values"
        )
    return list(changed.values())


def _describe(part: Path, checkpoint: Checkpoint, writers: int) -> None:
    (part / "config.yaml").write_text(checkpoint.config)
    record = {
        "step": checkpoint.step,
        "files": list(checkpoint.tensors),
        "writers": writers,
        "state": checkpoint.state,
    }
    (part / "state.json").write_text(json.dumps(record, indent=1))
    for name in ("config.yaml", "state.json"):
        sync(part / name)


def _folders(run: Path) -> list[Path]:
    """Checkpoint folders, oldest first."""
    found = [folder for folder in run.glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", folder.name)]
    return sorted(found, key=step_of)


def _whole(run: Path) -> list[Path]:
    """Those that hold what is written last."""
    return [folder for folder in _folders(run) if (folder / "state.json").is_file()]


def _remove(folder: Path) -> None:
    if folder.exists():
        doomed = folder.with_suffix(".old")
        shutil.rmtree(doomed, ignore_errors=True)
        folder.rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)  # a network disk keeps what is open; `clean` comes by again
