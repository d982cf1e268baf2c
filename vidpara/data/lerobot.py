"""LeRobotDataset v2.0, v2.1 and v3.0, read as they lie on disk: parquet and mp4, without lerobot.

Sizes and lengths come from the metadata and the rows; no video is opened before its frames are read.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from huggingface_hub import snapshot_download

from vidpara.cli import UserError
from vidpara.config import DataConfig
from vidpara.data.ahead import ahead
from vidpara.data.episode import Episode, Frames, labelled, video_only
from vidpara.data.lerobot_columns import camera_of, columns_of, poses_of
from vidpara.data.lerobot_meta import INFO, Dataset, Entry, read_entries, read_info
from vidpara.data.parquet import ParquetFrames, read_table, values
from vidpara.data.video import VideoFrames
from vidpara.types import Float, Int

HUB = "hf:"


def is_lerobot(path: Path) -> bool:
    return (path / INFO).is_file()


def is_hub_id(path: Path) -> bool:
    """Whether a path is `hf://OWNER/NAME`, whose double slash it has lost."""
    return path.parts[:1] == (HUB,) and len(path.parts) > 2


def download(path: Path) -> Path:
    """The local copy of a dataset on the Hub.

    Raises:
        UserError: there is no such dataset, or no way to it.
    """
    name = "/".join(path.parts[-2:])
    try:
        return Path(snapshot_download(name, repo_type="dataset"))
    except (OSError, ValueError) as error:  # all of huggingface_hub's errors are one of these
        raise UserError(f"cannot download dataset {name}: {' '.join(str(error).split())[:300]}") from error


def read_dataset(source: Path, folder: Path, config: DataConfig, camera: str) -> list[Episode]:
    """All episodes of the dataset in `folder`, as `camera` sees them; without its parameters they are video only.

    Raises:
        UserError: a file is missing or damaged, files contradict one another, or a column is unknown.
    """
    dataset = read_info(source, folder)
    key = _camera_key(dataset, camera)
    entries, stored = read_entries(dataset, key), dataset.image_size(key)
    for file in dict.fromkeys(entry.video for entry in entries):
        if file and not file.is_file():
            raise UserError(
                f"{file} does not exist, but the dataset's metadata name it; copy the missing file"
            )
    known = list(dataset.features)
    episodes, without = [], 0
    for entry, rows, table in _tables(entries, columns_of(camera, config.lerobot)):
        times = _times(entry, table, rows, dataset.fps)
        frames = _frames(dataset, entry, key, rows, times, config)
        where = f"{source}: {entry.name}"
        part = table.take(pa.array(rows))
        lens = camera_of(where, part, entry.facts, stored, camera, config)
        if lens is None:
            without += 1
            episodes.append(video_only(source, entry.name, frames, times, stored, config.size, entry.task))
        else:
            poses = poses_of(where, part, known, config.lerobot)
            episodes.append(
                labelled(source, entry.name, frames, times, lens, stored, config.size, poses, entry.task)
            )
    if without:
        print(
            f"{source}: {without} of {len(episodes)} episodes have no parameters of camera '{camera}', so their "
            "video is used and their actions are not; give them with --data.cameras",
            file=sys.stderr,
        )
    return episodes


def read_column(source: Path, folder: Path, name: str) -> dict[str, Float[np.ndarray, "T n"]]:
    """A column of numbers, by the episodes' names; nothing where the dataset has none of that name."""
    dataset = read_info(source, folder)
    if name not in dataset.features:
        return {}
    entries = read_entries(dataset, _cameras(dataset)[0])
    return {entry.name: values(table, name)[rows] for entry, rows, table in _tables(entries, [name])}


def _camera_key(dataset: Dataset, camera: str) -> str:
    """The feature that holds the camera's images."""
    cameras = _cameras(dataset)
    for key in (camera, f"observation.images.{camera}"):
        if key in cameras:
            return key
    short = [name.removeprefix("observation.images.") for name in cameras]
    raise UserError(f"{dataset.source} has no camera '{camera}'; it has {short}: set --data.camera")


def _cameras(dataset: Dataset) -> list[str]:
    return [name for name, kind in dataset.features.items() if kind.get("dtype") in ("video", "image")]


def _tables(
    entries: list[Entry], columns: list[str]
) -> Iterator[tuple[Entry, Int[np.ndarray, "T"], pa.Table]]:
    """Each episode with its rows in its file's table; a file that holds several is read once."""
    of_file = [(file, list(found)) for file, found in itertools.groupby(entries, lambda entry: entry.data)]
    wanted = list(dict.fromkeys(["episode_index", "timestamp", *columns]))
    tables = ahead(lambda each: read_table(each[0], wanted), of_file)
    for (file, found), reading in zip(of_file, tables, strict=True):
        table = reading.result()
        if missing := {"episode_index", "timestamp"} - set(table.column_names):
            raise UserError(
                f"{file} has no column {sorted(missing)}; it is no LeRobotDataset's: copy it anew"
            )
        numbers = values(table, "episode_index")[:, 0]
        order = np.argsort(numbers, kind="stable")
        for entry in found:
            first, end = (np.searchsorted(numbers, entry.number, side, order) for side in ("left", "right"))
            if end - first != entry.length:
                raise UserError(
                    f"{file}: {entry.name} has {end - first} rows there, its metadata say {entry.length}; the file is "
                    "not whole or the offsets are wrong: copy or export the dataset anew"
                )
            yield entry, order[first:end], table


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
