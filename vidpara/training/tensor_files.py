"""Tensors of a checkpoint, in one file or in one of each process that wrote its rows; read one by one, when needed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor


class Writer(NamedTuple):
    """Which of how many processes writes, alone everything; `wait` returns once all have called it."""

    rank: int = 0
    ranks: int = 1
    wait: Callable[[], object] = lambda: None


ALONE = Writer()


class StoredTensors(Mapping[str, Tensor]):
    """Name -> whole tensor on the CPU, read from its files on every access, so that a model need not fit into memory
    twice. `names` keeps a part of them.
    """

    def __init__(self, files: Iterable[Path], names: Iterable[str] | None = None) -> None:
        self._files = list(files)
        self._open: list[Any] = [safe_open(file, "pt") for file in self._files]
        self._parts: dict[str, list[Any]] = {}
        for file in self._open:
            for name in file.keys():  # noqa: SIM118 - not a dict
                self._parts.setdefault(name, []).append(file)
        if names is not None:
            self._parts = {name: self._parts[name] for name in names}

    def __getitem__(self, name: str) -> Tensor:
        rows = [file.get_tensor(name) for file in self._parts[name]]
        return rows[0] if len(rows) == 1 else torch.cat(rows)

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)

    def only(self, names: Iterable[str]) -> StoredTensors:
        return StoredTensors(self._files, names)


def store(folder: Path, kind: str, tensors: Mapping[str, Tensor], writer: Writer) -> Path:
    """Write what this process holds of `kind`; returns the file."""
    file = files(folder, kind, writer.ranks)[writer.rank]
    # each on the CPU first, where safetensors writes it from: contiguous on a GPU, all would be there twice
    save_file({name: value.cpu().contiguous() for name, value in tensors.items()}, file)
    return file


def files(folder: Path, kind: str, ranks: int) -> list[Path]:
    """Where `kind` is stored, in the order of its rows; numbered as on the Hugging Face hub."""
    if ranks == 1:
        return [folder / f"{kind}.safetensors"]
    return [folder / f"{kind}-{rank + 1:05d}-of-{ranks:05d}.safetensors" for rank in range(ranks)]


def stored(folder: Path, kind: str, ranks: int) -> StoredTensors:
    """What `store` wrote, of all processes.

    Raises:
        OSError, SafetensorError: a file is missing or damaged.
    """
    return StoredTensors(files(folder, kind, ranks))
