"""LeRobotDataset v2.0, v2.1 and v3.0, read as they lie on disk: parquet and mp4, without lerobot.

v2 keeps an episode a file, v3 several: there `meta/episodes` says in which file an episode's rows and frames are, and
at which second of the video it begins.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from huggingface_hub import snapshot_download

from vidpara.cli import UserError
from vidpara.config import DataConfig
from vidpara.data.episode import Episode, Frames, labelled, video_only
from vidpara.data.lerobot_columns import CAMERA_COLUMNS, camera_of, label_columns, poses_of
from vidpara.data.parquet import ParquetFrames, read_table, values
from vidpara.data.video import Header, VideoFrames, header
from vidpara.types import Float, Int

HUB = "hf:"
INFO = "meta/info.json"
VERSIONS = ("v2.0", "v2.1", "v3.0")


class Dataset(NamedTuple):
    """What `meta/info.json` says."""

    source: Path
    """As `data.rollouts` names it."""
    folder: Path
    version: int
    fps: float
    chunk: int
    """Episodes (v2) a folder."""
    data_path: str
    video_path: str
    features: dict[str, dict[str, Any]]

    def path(self, template: str, **fields: Any) -> Path:
        try:
            return self.folder / template.format(**fields)
        except (KeyError, IndexError, ValueError, AttributeError) as error:
            raise UserError(f"{self.folder / INFO} has an unknown path template {template!r}") from error


class Entry(NamedTuple):
    """Where one episode lies."""

    number: int
    length: int
    data: Path
    video: Path | None
    """None where images lie in the rows."""
    start: float
    end: float
    """Seconds of the video file between which the episode is shown."""
    facts: dict[str, Any]
    """All that the metadata say of the episode."""

    @property
    def name(self) -> str:
        return f"episode_{self.number:06d}"


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


def read_dataset(source: Path, folder: Path, config: DataConfig) -> list[Episode]:
    """All episodes of the dataset in `folder`; those whose camera has no parameters are video only.

    Raises:
        UserError: a file is missing or damaged, files contradict one another, or a column is unknown.
    """
    dataset = _dataset(source, folder)
    key = _camera_key(dataset, config.camera)
    entries = _entries(dataset, key)
    headers = {file: header(file) for file in dict.fromkeys(entry.video for entry in entries) if file}
    known = list(dataset.features)
    columns = ["episode_index", "timestamp", *(name.format(config.camera) for name in CAMERA_COLUMNS)]
    episodes, without = [], 0
    for entry, rows, table in _tables(entries, [*columns, *label_columns(config.lerobot)]):
        times = _times(entry, table, rows, dataset.fps)
        frames, stored = _frames(dataset, entry, key, rows, times, headers, config)
        where = f"{source}: {entry.name}"
        part = table.take(pa.array(rows))
        camera = camera_of(where, part, entry.facts, stored, config)
        if camera is None:
            without += 1
            episodes.append(video_only(source, entry.name, frames, times, stored, config.size))
        else:
            poses = poses_of(where, part, known, config.lerobot)
            episodes.append(labelled(source, entry.name, frames, times, camera, stored, config.size, poses))
    if without:
        print(
            f"{source}: {without} of {len(episodes)} episodes have no parameters of camera '{config.camera}', so their "
            "video is used and their actions are not; give them with --data.cameras",
            file=sys.stderr,
        )
    return episodes


def read_column(source: Path, folder: Path, config: DataConfig, name: str) -> dict[str, Float[np.ndarray, "T n"]]:
    """A column of numbers, by the episodes' names; nothing where the dataset has none of that name."""
    dataset = _dataset(source, folder)
    if name not in dataset.features:
        return {}
    entries = _entries(dataset, _camera_key(dataset, config.camera))
    tables = _tables(entries, ["episode_index", "timestamp", name])
    return {entry.name: values(table, name)[rows] for entry, rows, table in tables}


def _dataset(source: Path, folder: Path) -> Dataset:
    file = folder / INFO
    try:
        info = json.loads(file.read_text())
        version = str(info["codebase_version"])
        if version not in VERSIONS:
            raise UserError(
                f"{file}: version {version} is not read, {', '.join(VERSIONS)} are; convert it with lerobot"
            )
        return Dataset(
            source, folder, int(version[1]), float(info["fps"]), int(info.get("chunks_size", 1000)),
            info["data_path"], info.get("video_path") or "", info["features"],
        )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} is not a LeRobotDataset's description ({error!r}); copy it anew") from error


def _camera_key(dataset: Dataset, camera: str) -> str:
    """The feature that holds the camera's images."""
    cameras = [name for name, kind in dataset.features.items() if kind.get("dtype") in ("video", "image")]
    for key in (camera, f"observation.images.{camera}"):
        if key in cameras:
            return key
    short = [name.removeprefix("observation.images.") for name in cameras]
    raise UserError(f"{dataset.source} has no camera '{camera}'; it has {short}: set --data.camera")


def _entries(dataset: Dataset, key: str) -> list[Entry]:
    """Where every episode lies, in the order of their numbers."""
    read = _entries_v2 if dataset.version == 2 else _entries_v3
    try:
        entries = sorted(read(dataset, key), key=lambda entry: entry.number)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{dataset.folder / 'meta'}: the list of episodes lacks {error}; copy it anew"
        ) from error
    if not entries:
        raise UserError(f"{dataset.source} has no episodes; set --data.rollouts")
    for entry in entries:
        if entry.length < 1:
            raise UserError(f"{dataset.source}: {entry.name} is empty; remove it from the dataset")
    until: dict[Path, Entry] = {}
    for entry in sorted(entries, key=lambda entry: entry.start) if dataset.version == 3 else []:
        before = until.get(entry.video) if entry.video else None
        if before and entry.start < before.end - 0.5 / dataset.fps:
            raise UserError(
                f"{entry.video}: {before.name} and {entry.name} overlap ({before.start:.3f} to {before.end:.3f} s, "
                f"{entry.start:.3f} to {entry.end:.3f} s); the offsets in meta/episodes are wrong: export it anew"
            )
        if entry.video:
            until[entry.video] = entry
    return entries


def _entries_v2(dataset: Dataset, key: str) -> Iterator[Entry]:
    file = dataset.folder / "meta/episodes.jsonl"
    if not file.is_file():
        raise UserError(f"{file} does not exist, but {INFO} describes version 2; copy the missing file")
    for line in filter(str.strip, file.read_text().splitlines()):
        facts = json.loads(line)
        number = int(facts["episode_index"])
        fields = {"episode_index": number, "episode_chunk": number // dataset.chunk, "video_key": key}
        is_video = dataset.features[key]["dtype"] == "video"
        video = dataset.path(dataset.video_path, **fields) if is_video else None
        data = dataset.path(dataset.data_path, **fields)
        yield Entry(number, int(facts["length"]), data, video, 0.0, float("inf"), facts)


def _entries_v3(dataset: Dataset, key: str) -> Iterator[Entry]:
    files = sorted((dataset.folder / "meta/episodes").glob("*/*.parquet"))
    if not files:
        raise UserError(f"{dataset.folder / 'meta/episodes'} holds no parquet file; copy the missing files")
    for facts in (row for file in files for row in _without_statistics(read_table(file)).to_pylist()):
        where = {name: facts[f"data/{name}"] for name in ("chunk_index", "file_index")}
        data, video, start, end = dataset.path(dataset.data_path, **where), None, 0.0, float("inf")
        if dataset.features[key]["dtype"] == "video":
            of = {name: facts[f"videos/{key}/{name}"] for name in ("chunk_index", "file_index")}
            video = dataset.path(dataset.video_path, video_key=key, **of)
            start, end = (float(facts[f"videos/{key}/{name}_timestamp"]) for name in ("from", "to"))
        yield Entry(int(facts["episode_index"]), int(facts["length"]), data, video, start, end, facts)


def _without_statistics(table: pa.Table) -> pa.Table:
    return table.select([name for name in table.column_names if not name.startswith("stats/")])


def _tables(
    entries: list[Entry], columns: list[str]
) -> Iterator[tuple[Entry, Int[np.ndarray, "T"], pa.Table]]:
    """Each episode with its rows in its file's table; a file that holds several is read once."""
    file, table, numbers = None, pa.table({}), np.empty(0)
    for entry in entries:
        if entry.data != file:
            file, table = entry.data, read_table(entry.data, list(dict.fromkeys(columns)))
            if missing := {"episode_index", "timestamp"} - set(table.column_names):
                raise UserError(
                    f"{file} has no column {sorted(missing)}; it is no LeRobotDataset's: copy it anew"
                )
            numbers = values(table, "episode_index")[:, 0]
        rows = np.flatnonzero(numbers == entry.number)
        if len(rows) != entry.length:
            raise UserError(
                f"{file}: {entry.name} has {len(rows)} rows there, its metadata say {entry.length}; the file is not "
                "whole or the offsets are wrong: copy or export the dataset anew"
            )
        yield entry, rows, table


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
    headers: dict[Path, Header],
    config: DataConfig,
) -> tuple[Frames, tuple[int, int]]:
    """The episode's frames, and their rows and columns."""
    if entry.video is None:
        frames = ParquetFrames(entry.data, entry.name, key, rows)
        shape = dataset.features[key]["shape"]
        return frames, (shape[-2], shape[-1]) if shape[0] in (1, 3) else (shape[0], shape[1])
    found, half = headers[entry.video], 0.5 / dataset.fps
    if times[-1] > found.end + half:
        raise UserError(
            f"{entry.video} ends at {found.end:.3f} s, but {entry.name} has a frame at {times[-1]:.3f} s; the video is "
            "not whole or the offsets are wrong: copy or export the dataset anew"
        )
    return VideoFrames(entry.video, entry.name, times, half, config.decoder), found.size
