"""Shards of latents where machines that share no disk find them: s3://, gs://, file://, whatever fsspec opens."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import fsspec
from filelock import FileLock, Timeout
from tqdm import tqdm

from vidpara.cli import UserError

BLOCK = 2**24
"""Bytes that are copied at once."""
INDEX = "index.json"
"""Written last, there and here: a cache that has it is whole."""


def fetch(path: Path, url: str, encoding: FileLock) -> bool:
    """Copy the cache of this name from `url` to `path`, which appears whole; False if there is none, or if another
    run holds the lock `encoding` and is making its own. A copy that was stopped goes on where it ended: caches of one
    name hold the same.

    Raises:
        UserError: the store cannot be reached, or the copy cannot be written.
    """
    files, root = _open(url)
    part = path.with_suffix(".part")
    try:
        if not files.exists(f"{root}/{path.name}/{INDEX}"):
            return False
        part.mkdir(parents=True, exist_ok=True)
        there = {file: files.size(file) for file in files.ls(f"{root}/{path.name}", detail=False)}
        with tqdm(total=sum(there.values()), desc=f"fetch {path.name}", unit="B", unit_scale=True) as bar:
            for file, size in there.items():
                _fetch(files, file, size, part / Path(file).name, bar)
        with encoding.acquire(timeout=0):
            shutil.rmtree(path, ignore_errors=True)
            os.replace(part, path)
    except Timeout:
        return False
    except Exception as error:  # every kind of store has errors of its own
        raise UserError(f"cannot fetch {path.name} from {url}: {error}; check --data.store") from error
    return True


def _fetch(files: Any, file: str, size: int, target: Path, bar: tqdm) -> None:
    """Append to `target` what it lacks of a store's file of `size` bytes."""
    if target.exists() and target.stat().st_size > size:
        target.unlink()
    with files.open(file, "rb") as source, open(target, "ab") as written:
        bar.update(written.tell())
        source.seek(written.tell())
        while block := source.read(BLOCK):
            written.write(block)
            bar.update(len(block))


def push(path: Path, url: str) -> None:
    """Copy the whole cache at `path` to `url`, unless it is there.

    Raises:
        UserError: the store cannot be written.
    """
    files, root = _open(url)
    folder = f"{root}/{path.name}"
    try:
        if files.exists(f"{folder}/{INDEX}"):
            return
        files.makedirs(folder, exist_ok=True)
        for file in sorted(path.iterdir(), key=lambda file: file.name == INDEX):
            files.put_file(str(file), f"{folder}/{file.name}")
    except Exception as error:  # as above
        raise UserError(f"cannot put {path} into {url}: {error}; check --data.store") from error


def _open(url: str) -> tuple[Any, str]:
    try:
        files, root = fsspec.core.url_to_fs(url)
    except (ValueError, ImportError) as error:  # an unknown kind, or one whose package is missing
        raise UserError(f"--data.store {url}: {error}") from error
    return files, root.rstrip("/")
