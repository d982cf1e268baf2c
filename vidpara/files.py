"""Files and folders that stand under their name only when they are whole: written beside their place, then renamed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """Where to write the file or folder that is to stand at `path`: it takes that name when the block ends.

    If the block fails, what was written is deleted and what stood at `path` stays. One process writes a `path`.
    """
    part = path.with_name(f"{path.name}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    remove(part)
    try:
        yield part
        if part.is_dir():
            _replace_folder(part, path)
        else:
            sync(part)
            os.replace(part, path)
    except BaseException:
        remove(part)
        raise


def write_atomically(path: Path, content: bytes) -> None:
    """Replace `path` with `content` in one step: a full disk or a kill leaves the old file, never half of the new."""
    with beside(path) as part:
        part.write_bytes(content)


def sync(path: Path) -> None:
    """Have the system write `path` to the disk, so that the rename never outlives its content."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _replace_folder(part: Path, path: Path) -> None:
    """A folder takes no other's place: the old one goes aside first, so that no half of it ever stands there."""
    old = path.with_name(f"{path.name}.old")
    remove(old)
    if path.exists() or path.is_symlink():
        path.rename(old)
    os.replace(part, path)
    remove(old)


def remove(path: Path) -> None:
    """Delete a file or folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
