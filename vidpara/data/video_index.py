"""What a folder's videos say of themselves, kept between starts: the length of a plain video is only in its file."""

from __future__ import annotations

import hashlib
import itertools
import os
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vidpara.types import Float


class Known(NamedTuple):
    """A video as it was when it was opened."""

    name: str
    """Its path in the folder."""
    bytes: int
    modified: int
    """Nanoseconds, as the file system says."""
    size: tuple[int, int]
    """Rows and columns, upright."""
    times: Float[np.ndarray, "n"]
    """Seconds at which its frames are shown."""


class VideoIndex:
    """The known videos of a folder. Threads may read and add at once."""

    def __init__(self, folder: Path, cache: Path) -> None:
        self.folder = folder
        self.place = (
            cache / f"videos-{hashlib.sha256(str(folder.absolute()).encode()).hexdigest()[:16]}.parquet"
        )
        self.known = {each.name: each for each in _load(self.place)}
        self.changed = False

    def get(self, file: Path) -> Known | None:
        """What is known of a file that has not changed since."""
        found = self.known.get(file.relative_to(self.folder).as_posix())
        return found if found and found[1:3] == _state(file) else None

    def add(self, file: Path, times: Float[np.ndarray, "n"], size: tuple[int, int]) -> Known:
        found = Known(file.relative_to(self.folder).as_posix(), *_state(file), size, times)
        self.known[found.name], self.changed = found, True
        return found

    def save(self) -> None:
        """Write what was added; where that is not possible, the next start opens the files again, and it is said."""
        if not self.changed:
            return
        rows = [each for each in self.known.values() if (self.folder / each.name).is_file()]
        columns = {name: [getattr(row, name) for row in rows] for name in Known._fields}
        part = self.place.with_suffix(f".{os.getpid()}.part")
        try:
            self.place.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(pa.table(columns), part)
            os.replace(part, self.place)
        except OSError as error:
            print(
                f"the lengths of {self.folder}'s videos are not kept: {error}; set --data.cache",
                file=sys.stderr,
            )


def _state(file: Path) -> tuple[int, int]:
    stat = file.stat()
    return stat.st_size, stat.st_mtime_ns


def _load(place: Path) -> list[Known]:
    """Nothing where there is no index, or none that can be read: it is written anew."""
    try:
        table = pq.read_table(place)
        times = table.column("times").combine_chunks()
        ends, flat = times.offsets.to_numpy(), times.values.to_numpy()
        sizes = map(tuple, table.column("size").to_pylist())
        parts = [flat[a:b] for a, b in itertools.pairwise(ends)]
        plain = (table.column(name).to_pylist() for name in ("name", "bytes", "modified"))
        return [Known(*each) for each in zip(*plain, sizes, parts, strict=True)]
    except (OSError, pa.ArrowException, KeyError, AttributeError):
        return []
