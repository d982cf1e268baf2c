"""LeRobotDataset v2.0, v2.1 and v3.0, read as they lie on disk: parquet and mp4, without lerobot.

Sizes and lengths come from the metadata and the rows; no video is opened before its frames are read.
"""

from __future__ import annotations

import functools
import itertools
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from huggingface_hub import snapshot_download

from vidpara.cli import UserError
from vidpara.config import DataConfig
from vidpara.data.ahead import ahead
from vidpara.data.episode import Episode, OnError, labelled, readable, video_only
from vidpara.data.frames import Frames
from vidpara.data.lerobot_columns import camera_of, columns_of, poses_of
from vidpara.data.lerobot_meta import INFO, Dataset, Entry, read_entries, read_info
from vidpara.data.parquet import ParquetFrames, read_table, values
from vidpara.data.source_file import Source
from vidpara.data.video import VideoFrames
from vidpara.types import Float, Int


class Rows(NamedTuple):
    """One episode's rows of its file's table."""

    indices: Int[np.ndarray, "T"]
    table: pa.Table


def is_lerobot(path: Path) -> bool:
    return (path / INFO).is_file()


def download(path: Path, camera: str = "*") -> Path:
    """The local copy of a dataset on the Hub: metadata, rows, and the videos of one camera (all by default).

    Raises:
        UserError: there is no such dataset, or no way to it.
    """
    name = "/".join(path.parts[-2:])
    videos = [f"videos/*{camera}/*"]  # videos/chunk-000/KEY/FILE (v2), videos/KEY/chunk-000/FILE (v3)
    try:
        return Path(
            snapshot_download(name, repo_type="dataset", allow_patterns=["meta/*", "data/*", *videos])
        )
    except (OSError, ValueError) as error:  # all of huggingface_hub's errors are one of these
        raise UserError(f"cannot download dataset {name}: {' '.join(str(error).split())[:300]}") from error


def read_dataset(source: Source, folder: Path, config: DataConfig, on_error: OnError) -> list[Episode]:
    """All episodes of the dataset in `folder`, as its camera sees them; without its parameters they are video only.

    An episode that cannot be read ends it, or is left out.

    Raises:
        UserError: a file is missing or damaged, files contradict one another, or a column is unknown.
    """
    dataset = read_info(source.name, folder)
    key = _camera_key(dataset, source)
    tables = _tables(read_entries(dataset, key), columns_of(source.camera, source.lerobot))
    reads = (partial(_episode, dataset, key, source, config, entry, rows) for entry, rows in tables)
    episodes = list(readable(reads, on_error))
    if without := sum(not episode.labelled for episode in episodes):
        print(
            f"{source.name}: {without} of {len(episodes)} episodes have no parameters of camera '{source.camera}', so "
            "their video is used and their actions are not; give them with "
            f"{source.setting('cameras')}",
            file=sys.stderr,
        )
    return episodes


def _episode(
    dataset: Dataset,
    key: str,
    source: Source,
    config: DataConfig,
    entry: Entry,
    read_rows: Callable[[], Rows],
) -> Episode:
    name, stored = source.name, dataset.image_size(key)
    where = f"{name}: {entry.name}"
    if entry.video and not entry.video.is_file():
        raise UserError(
            f"{entry.video} does not exist, but the dataset's metadata name it; copy the missing file"
        )
    rows, table = read_rows()
    try:
        times = _times(entry, table, rows, dataset.fps)
        frames = _frames(dataset, entry, key, rows, times, config)
        part = table.take(pa.array(rows))
        lens = camera_of(where, part, entry.facts, stored, source)
        if lens is None:
            return video_only(name, entry.name, frames, times, stored, config.size, entry.task)
        poses = poses_of(where, part, list(dataset.features), source)
        return labelled(name, entry.name, frames, times, lens, stored, config.size, poses, entry.task)
    except (ValueError, TypeError, KeyError, IndexError, pa.ArrowException) as error:
        raise UserError(
            f"{where} holds something else than is expected ({error}); check the columns "
            f"({source.setting('lerobot')}), or export it anew"
        ) from error


def read_column(source: Path, folder: Path, name: str) -> dict[str, Float[np.ndarray, "T n"]]:
    """A column of numbers, by the names of the episodes that can be read; nothing where there is none of that name."""
    dataset = read_info(source, folder)
    if name not in dataset.features:
        return {}
    entries = read_entries(dataset, _cameras(dataset)[0])
    reads = (partial(_column, entry, name, read_rows) for entry, read_rows in _tables(entries, [name]))
    return dict(readable(reads, []))


def _column(entry: Entry, name: str, read_rows: Callable[[], Rows]) -> tuple[str, Float[np.ndarray, "T n"]]:
    rows = read_rows()
    try:
        return entry.name, values(rows.table.take(pa.array(rows.indices)), name)
    except (ValueError, pa.ArrowException) as error:
        raise UserError(f"{entry.data}: {entry.name} has no numbers in column '{name}' ({error})") from error


def _camera_key(dataset: Dataset, source: Source) -> str:
    """The feature that holds the camera's images."""
    camera = source.camera
    cameras = _cameras(dataset)
    for key in (camera, f"observation.images.{camera}"):
        if key in cameras:
            return key
    short = [name.removeprefix("observation.images.") for name in cameras]
    raise UserError(
        f"{dataset.source} has no camera '{camera}'; it has {short}: set {source.setting('camera')}"
    )


def _cameras(dataset: Dataset) -> list[str]:
    return [name for name, kind in dataset.features.items() if kind.get("dtype") in ("video", "image")]


def _tables(entries: list[Entry], columns: list[str]) -> Iterator[tuple[Entry, Callable[[], Rows]]]:
    """Each episode with how to get at its rows in its file's table; a file that holds several is read once."""
    of_file = [(file, list(found)) for file, found in itertools.groupby(entries, lambda entry: entry.data)]
    wanted = list(dict.fromkeys(["episode_index", "timestamp", *columns]))
    tables = ahead(lambda each: read_table(each[0], wanted), of_file)
    for (file, found), reading in zip(of_file, tables, strict=True):
        by_episode = functools.cache(partial(_by_episode, file, reading))
        for entry in found:
            yield entry, partial(_rows, entry, by_episode)


def _by_episode(file: Path, reading: Future[pa.Table]) -> tuple[pa.Table, np.ndarray, np.ndarray]:
    """A file's table, the episode of each row, and the rows in the order of their episodes."""
    table = reading.result()
    if missing := {"episode_index", "timestamp"} - set(table.column_names):
        raise UserError(f"{file} has no column {sorted(missing)}; it is no LeRobotDataset's: copy it anew")
    try:
        numbers = values(table, "episode_index")[:, 0]
    except (ValueError, IndexError, pa.ArrowException) as error:
        raise UserError(f"{file}: column 'episode_index' holds no numbers ({error}); copy it anew") from error
    return table, numbers, np.argsort(numbers, kind="stable")


def _rows(entry: Entry, by_episode: Callable[[], tuple[pa.Table, np.ndarray, np.ndarray]]) -> Rows:
    table, numbers, order = by_episode()
    first, end = (np.searchsorted(numbers, entry.number, side, order) for side in ("left", "right"))
    if end - first != entry.length:
        raise UserError(
            f"{entry.data}: {entry.name} has {end - first} rows there, its metadata say {entry.length}; the file is "
            "not whole or the offsets are wrong: copy or export the dataset anew"
        )
    return Rows(order[first:end], table)


def _times(entry: Entry, table: pa.Table, rows: Int[np.ndarray, "T"], fps: float) -> Float[np.ndarray, "T"]:
    """When the episode's frames are shown, seconds in its video file."""
    since = values(table, "timestamp")[rows, 0].astype(np.float64)
    if not (np.isfinite(since).all() and (np.diff(since) > 0).all()):
        raise UserError(f"{entry.data}: {entry.name}: timestamps do not increase; export the dataset anew")
    times = entry.start + since
    if times[-1] > entry.end + 0.5 / fps:
        raise UserError(
            f"{entry.video}: {entry.name} ends at {entry.end:.3f} s, its last frame is at {times[-1]:.3f} s; the "
            "offsets in meta/episodes are wrong: export the dataset anew"
        )
    return times


def _frames(
    dataset: Dataset,
    entry: Entry,
    key: str,
    rows: Int[np.ndarray, "T"],
    times: Float[np.ndarray, "T"],
    config: DataConfig,
) -> Frames:
    if entry.video is None:
        return ParquetFrames(entry.data, entry.name, key, rows)
    return VideoFrames(entry.video, entry.name, times, 0.5 / dataset.fps, config.decoder)
