"""What a LeRobotDataset's metadata say: `meta/info.json`, and where every episode lies.

v2 keeps an episode a file, v3 several: there `meta/episodes` says in which file an episode's rows and frames are, and
at which second of the video it begins.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from vidpara.cli import UserError
from vidpara.data.parquet import read_table

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
    episodes: int | None
    """How many there should be; None where it is not said."""

    def path(self, template: str, **fields: Any) -> Path:
        try:
            return self.folder / template.format(**fields)
        except (KeyError, IndexError, ValueError, AttributeError) as error:
            raise UserError(f"{self.folder / INFO} has an unknown path template {template!r}") from error

    def image_size(self, key: str) -> tuple[int, int]:
        """Rows and columns of a camera's images; the channels stand last or first."""
        shape = self.features[key].get("shape")
        if not (isinstance(shape, list) and len(shape) == 3 and all(type(n) is int and n > 0 for n in shape)):
            raise UserError(
                f"{self.folder / INFO}: the shape of '{key}' is {shape}, [rows, columns, channels] is expected; "
                "copy it anew"
            )
        return (shape[1], shape[2]) if shape[0] in (1, 3) else (shape[0], shape[1])


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

    @property
    def task(self) -> str:
        """The instruction; several are joined."""
        tasks = self.facts.get("tasks")
        return "; ".join(map(str, filter(None, tasks))) if isinstance(tasks, list) else str(tasks or "")


def read_info(source: Path, folder: Path) -> Dataset:
    file = folder / INFO
    try:
        info = json.loads(file.read_text())
        version = str(info["codebase_version"])
        if version not in VERSIONS:
            raise UserError(
                f"{file}: version {version} is not read, {', '.join(VERSIONS)} are; convert it with lerobot"
            )
        features, fps, chunk = info["features"], float(info["fps"]), int(info.get("chunks_size", 1000))
        if not (isinstance(features, dict) and all(isinstance(kind, dict) for kind in features.values())):
            raise ValueError("its features are no mapping of mappings")
        if not (fps > 0 and chunk > 0):
            raise ValueError(f"fps {fps} and chunks_size {chunk} must be above 0")
        return Dataset(
            source, folder, int(version[1]), fps, chunk, info["data_path"], info.get("video_path") or "", features,
            info.get("total_episodes"),
        )  # fmt: skip
    except UnicodeDecodeError as error:
        raise UserError(f"{file} is no text; copy it anew") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} is not a LeRobotDataset's description ({error!r}); copy it anew") from error


def read_entries(dataset: Dataset, key: str) -> list[Entry]:
    """Where every episode lies, in the order of their numbers."""
    read = _entries_v2 if dataset.version == 2 else _entries_v3
    try:
        entries = sorted(read(dataset, key), key=lambda entry: entry.number)
    except KeyError as error:
        raise UserError(
            f"{dataset.folder / 'meta'}: the list of episodes lacks {error}; copy it anew"
        ) from error
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{dataset.folder / 'meta'}: the list of episodes cannot be read ({error}); copy it anew"
        ) from error
    if not entries:
        raise UserError(f"{dataset.source} has no episodes; set --data.rollouts")
    if dataset.episodes is not None and len(entries) != dataset.episodes:
        raise UserError(
            f"{dataset.folder / INFO} says {dataset.episodes} episodes, meta lists {len(entries)}; "
            "copy the missing files, or correct total_episodes"
        )
    for entry in entries:
        if entry.length < 1:
            raise UserError(f"{dataset.source}: {entry.name} is empty; remove it from the dataset")
        if math.isnan(entry.start) or math.isnan(entry.end):
            raise UserError(
                f"{dataset.source}: {entry.name} begins or ends at no time; export the dataset anew"
            )
    for one, other in itertools.pairwise(entries):
        if one.number == other.number:
            raise UserError(f"{dataset.source} lists {one.name} twice; export the dataset anew")
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
    found = (dataset.folder / "meta/episodes").glob("*/*.parquet")
    files = sorted(file for file in found if not file.name.startswith("."))
    if not files:
        raise UserError(f"{dataset.folder / 'meta/episodes'} holds no parquet file; copy the missing files")
    tables = (
        read_table(file, without="stats/") for file in files
    )  # statistics are nine tenths of it, and not used
    for facts in (row for table in tables for row in table.to_pylist()):
        where = {name: facts[f"data/{name}"] for name in ("chunk_index", "file_index")}
        data, video, start, end = dataset.path(dataset.data_path, **where), None, 0.0, float("inf")
        if dataset.features[key]["dtype"] == "video":
            of = {name: facts[f"videos/{key}/{name}"] for name in ("chunk_index", "file_index")}
            video = dataset.path(dataset.video_path, video_key=key, **of)
            start, end = (float(facts[f"videos/{key}/{name}_timestamp"]) for name in ("from", "to"))
        yield Entry(int(facts["episode_index"]), int(facts["length"]), data, video, start, end, facts)
