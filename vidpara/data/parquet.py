"""Parquet files: columns as arrays, and images that are stored in their rows."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from vidpara.cli import UserError
from vidpara.types import Bool, Float, Int, UInt8

LISTS = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
NUMBERS = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_null)


@dataclass(frozen=True)
class ParquetFrames:
    """One episode's frames: the encoded images (PNG, JPEG) in `rows` of a column."""

    file: Path
    name: str
    """The episode's; a file may hold several."""
    column: str
    rows: Int[np.ndarray, "T"]

    def read(self, moments: Sequence[int]) -> UInt8[np.ndarray, "n h w 3"]:
        once, back = np.unique(self.rows[np.asarray(moments)], return_inverse=True)
        return self._decoded(list(_cells(self.file, self.column, once)))[back]

    def blocks(self, moments: Sequence[int], size: int) -> Iterator[UInt8[np.ndarray, "n h w 3"]]:
        cells = _cells(self.file, self.column, self.rows[np.asarray(moments)])
        while block := list(itertools.islice(cells, size)):
            yield self._decoded(block)

    def _decoded(self, stored: Sequence[Any]) -> UInt8[np.ndarray, "n h w 3"]:
        try:
            images = [np.asarray(Image.open(io.BytesIO(cell["bytes"])).convert("RGB")) for cell in stored]
            return np.stack(images)
        except (OSError, TypeError, KeyError, ValueError) as error:
            raise UserError(
                f"{self.file}: {self.name}: column '{self.column}' holds images that cannot be read ({error}); "
                "copy the file anew"
            ) from error

    def fingerprint(self) -> str:
        stat = self.file.stat()
        return f"{self.name} {self.file.name} {stat.st_size} {stat.st_mtime_ns} {self.column}"


def read_table(file: Path, columns: Sequence[str] | None = None, without: str | None = None) -> pa.Table:
    """The file's columns: of `columns` those that it has, and none whose name begins with `without`.

    Raises:
        UserError: the file is missing or damaged.
    """
    parquet = _open(file)
    known = parquet.schema_arrow.names
    try:
        wanted = known if columns is None else [name for name in columns if name in known]
        wanted = [name for name in wanted if without is None or not name.startswith(without)]
        return parquet.read(wanted, use_threads=False)  # files are small and many, or read side by side
    except (pa.ArrowException, OSError) as error:
        raise _damaged(file, error) from error


def values(
    table: pa.Table, column: str
) -> Float[np.ndarray, "n m"] | Int[np.ndarray, "n m"] | Bool[np.ndarray, "n m"]:
    """A column of numbers, or of lists of as many numbers a row.

    Raises:
        ValueError: the rows hold no numbers, or not equally many.
    """
    cells = table.column(column).combine_chunks()
    if isinstance(cells, pa.ChunkedArray):  # a table without rows
        cells = pa.concat_arrays(cells.chunks) if cells.num_chunks else pa.array([], cells.type.value_type)
    while any(is_a(cells.type) for is_a in LISTS):
        cells = cells.flatten()
    if not any(is_a(cells.type) for is_a in NUMBERS):
        raise ValueError(f"they are of type {cells.type}")
    if cells.null_count or len(cells) % max(1, len(table)):
        raise ValueError("rows are empty or of different lengths")
    return cells.to_numpy(zero_copy_only=False).reshape(len(table), -1)


def _cells(file: Path, column: str, rows: Int[np.ndarray, "n"]) -> Iterator[Any]:
    """The column's values in these rows, which ascend; only the row groups that hold them are read, each once."""
    parquet, first = _open(file), 0
    for group in range(parquet.num_row_groups):
        count = parquet.metadata.row_group(group).num_rows
        inside = rows[(rows >= first) & (rows < first + count)]
        if len(inside):
            try:
                cells = parquet.read_row_group(group, [column]).column(0)
            except (pa.ArrowException, OSError) as error:
                raise _damaged(file, error) from error
            yield from (cells[row].as_py() for row in (inside - first).tolist())
        first += count


def _open(file: Path) -> pq.ParquetFile:
    if not file.is_file():
        raise UserError(f"{file} does not exist, but the dataset's metadata name it; copy the missing file")
    try:
        return pq.ParquetFile(file)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(file, error) from error


def _damaged(file: Path, error: Exception) -> UserError:
    return UserError(f"{file} is not a readable parquet file ({error}); it may be truncated: copy it anew")
