"""Demonstrations -> LeRobotDataset v3.0, which lerobot loads and `vidpara.data.lerobot` reads back.

A row of a LeRobotDataset holds a frame and the action that is taken after it; ours hold the action that led to the
frame. So actions move up by one row, and the last row's is to stay where one is.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.spatial.transform import Rotation

from vidpara.cli import UserError
from vidpara.config import ExportLeRobotConfig
from vidpara.data.episode import Episode
from vidpara.data.rollouts import CONTROL_RATE, read_actions, read_fingers
from vidpara.files import beside
from vidpara.types import Float, UInt8

STATE = ("x", "y", "z", "axis_angle_x", "axis_angle_y", "axis_angle_z", "finger_left", "finger_right")
ACTION = ("x", "y", "z", "axis_angle_x", "axis_angle_y", "axis_angle_z", "gripper")
DATA = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
EPISODES = "meta/episodes/chunk-000/file-000.parquet"
CHUNK, DATA_MB, VIDEO_MB = 1000, 100, 200
"""lerobot's own limits; ours go to one data file, and to a video file each."""


FPS = round(CONTROL_RATE)
LABELS = ("min", "max", "mean", "std")


class Columns(NamedTuple):
    """The vectors of one episode's rows."""

    state: Float[np.ndarray, "T 8"]
    action: Float[np.ndarray, "T 7"]
    intrinsics: Float[np.ndarray, "T 9"]
    world_from_camera: Float[np.ndarray, "T 16"]


def write_dataset(episodes: Sequence[Episode], config: ExportLeRobotConfig) -> int:
    """Write the episodes to `config.output`, which appears only when it is complete; returns the number of frames.

    Raises:
        UserError: the folder exists, there are no episodes, or the images differ in size or have an odd number of
            rows or columns.
    """
    if not episodes:
        raise UserError("--rollouts name no episodes; give LIBERO HDF5 files, or folders that hold some")
    size = episodes[0].image_size
    if other := next((episode for episode in episodes if episode.image_size != size), None):
        raise UserError(
            f"{episodes[0].source} has images of {size} rows and columns, {other.source} of {other.image_size}; "
            "resize all with --size ROWS COLUMNS"
        )
    if config.output.exists():
        raise UserError(f"{config.output} exists; remove it or give another --output")
    if size[0] % 2 or size[1] % 2:
        raise UserError(f"videos take even sizes, the images have {size} rows and columns; set --size")
    vectors = {
        "observation.state": list(STATE),
        "action": list(ACTION),
        f"camera.{config.camera}.intrinsics": [f"k{i}{j}" for i in range(3) for j in range(3)],
        f"camera.{config.camera}.world_from_camera": [f"t{i}{j}" for i in range(4) for j in range(4)],
    }
    key = f"observation.images.{config.camera}"
    tasks = list(dict.fromkeys(episode.task for episode in episodes))
    total = sum(len(episode) for episode in episodes)
    counts = {"total_episodes": len(episodes), "total_frames": total, "total_tasks": len(tasks)}
    with beside(config.output) as part:
        facts = [*_write_episodes(part, episodes, tasks, key, list(vectors), config)]
        _write_table(part / EPISODES, pa.Table.from_pylist(facts))
        _write_tasks(part / "meta/tasks.parquet", tasks)
        _write_json(part / "meta/info.json", _info(vectors, key, size, counts))
        _write_json(part / "meta/stats.json", _together(facts))
    return total


def _write_episodes(
    folder: Path,
    episodes: Iterable[Episode],
    tasks: Sequence[str],
    key: str,
    names: Sequence[str],
    config: ExportLeRobotConfig,
) -> Iterator[dict[str, Any]]:
    """Data and videos; yields what `meta/episodes` says of each episode."""
    data = folder / DATA.format(chunk_index=0, file_index=0)
    data.parent.mkdir(parents=True, exist_ok=True)
    first = 0
    with ExitStack() as stack:
        writer: pq.ParquetWriter | None = None
        for number, episode in enumerate(episodes):
            images, count = episode.images(), len(episode)
            chunk, file = divmod(number, CHUNK)
            video = folder / VIDEO.format(video_key=key, chunk_index=chunk, file_index=file)
            _write_video(video, images, config)
            columns = dict(zip(names, demo_columns(episode), strict=True))
            table = _table(columns, number, first, tasks.index(episode.task))
            writer = writer or stack.enter_context(pq.ParquetWriter(data, table.schema))
            writer.write_table(table)
            yield {
                "episode_index": number, "tasks": [episode.task], "length": count,
                "data/chunk_index": 0, "data/file_index": 0,
                "dataset_from_index": first, "dataset_to_index": first + count,
                f"videos/{key}/chunk_index": chunk, f"videos/{key}/file_index": file,
                f"videos/{key}/from_timestamp": 0.0, f"videos/{key}/to_timestamp": count / FPS,
                "meta/episodes/chunk_index": 0, "meta/episodes/file_index": 0,
                **_statistics({**columns, key: images}),
            }  # fmt: skip
            first += count


def demo_columns(episode: Episode) -> Columns:
    """What a demo of a LIBERO file says of each of its rows, in the order of LeRobot."""
    rotation = Rotation.from_matrix(episode.rotation.double().numpy()).as_rotvec()
    state = np.concatenate([episode.position.numpy(), rotation, read_fingers(episode)], axis=1)
    led_here = read_actions(episode)
    rest = np.concatenate([np.zeros(6), led_here[-1, 6:]])
    still = (part.reshape(-1).numpy() for part in episode.camera)
    values = (state, np.vstack([led_here[1:], rest]), *(np.tile(part, (len(episode), 1)) for part in still))
    return Columns(*(value.astype(np.float32) for value in values))


def _table(columns: Mapping[str, Float[np.ndarray, "T n"]], number: int, first: int, task: int) -> pa.Table:
    count = len(next(iter(columns.values())))
    frame = np.arange(count)
    table = {
        name: pa.FixedSizeListArray.from_arrays(pa.array(value.reshape(-1)), value.shape[1])
        for name, value in columns.items()
    }
    table["timestamp"] = pa.array((frame / FPS).astype(np.float32))
    for name, value in _counters(frame, number, first, task).items():
        table[name] = pa.array(value)
    return pa.table(table)


def _counters(frame: np.ndarray, number: int, first: int, task: int) -> dict[str, np.ndarray]:
    """lerobot's own columns."""
    none = np.zeros_like(frame)
    return {
        "frame_index": frame,
        "episode_index": none + number,
        "index": frame + first,
        "task_index": none + task,
    }


def _write_video(file: Path, images: UInt8[np.ndarray, "T h w 3"], config: ExportLeRobotConfig) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    options = {"crf": str(config.crf), "g": str(config.gop), "bf": "0"}
    with av.open(str(file), "w", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=FPS, options=options)
        stream.height, stream.width, stream.pix_fmt = *images.shape[1:3], "yuv420p"
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


def _statistics(columns: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """lerobot's statistics of one episode: vectors by value, images by channel in [0, 1]."""
    found = {}
    for name, value in columns.items():
        if value.ndim == 4:
            of, shape = _of_channels(value), (3, 1, 1)
        else:
            of, shape = [getattr(value.astype(np.float64), label)(0) for label in LABELS], value.shape[1:]
        for label, each in zip(LABELS, of, strict=True):
            found[f"stats/{name}/{label}"] = each.reshape(shape).tolist()
        found[f"stats/{name}/count"] = [len(value)]
    return found


def _of_channels(images: UInt8[np.ndarray, "T h w 3"]) -> list[Float[np.ndarray, "3"]]:
    """`LABELS` of each channel, in [0, 1]; in float64 a whole episode's images would take eight times their memory."""
    mean, square = (
        np.mean([(image.astype(np.float64) ** power).mean((0, 1)) for image in images], axis=0)
        for power in (1, 2)
    )
    spread = np.sqrt((square - mean**2).clip(0))
    return [part / 255 for part in (images.min((0, 1, 2)), images.max((0, 1, 2)), mean, spread)]


def _together(facts: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The statistics of all episodes: means weighted by length, variances about the common mean."""
    weight = np.array([row["length"] for row in facts], np.float64)
    weight /= weight.sum()
    found: dict[str, dict[str, Any]] = {}
    for name in (key.split("/")[1] for key in facts[0] if key.startswith("stats/") and key.endswith("/mean")):
        of = {label: np.array([row[f"stats/{name}/{label}"] for row in facts]) for label in LABELS}
        mean = np.tensordot(weight, of["mean"], 1)
        variance = np.tensordot(weight, of["std"] ** 2 + (of["mean"] - mean) ** 2, 1)
        found[name] = {
            "min": of["min"].min(0).tolist(), "max": of["max"].max(0).tolist(), "mean": mean.tolist(),
            "std": np.sqrt(variance).tolist(), "count": [sum(row["length"] for row in facts)],
        }  # fmt: skip
    return found


def _info(
    vectors: Mapping[str, list[str]], key: str, size: tuple[int, int], counts: Mapping[str, int]
) -> dict[str, Any]:
    features: dict[str, Any] = {
        name: {"dtype": "float32", "shape": [len(labels)], "names": labels}
        for name, labels in vectors.items()
    }
    features[key] = {
        "dtype": "video", "shape": [*size, 3], "names": ["height", "width", "channels"],
        "info": {
            "video.height": size[0], "video.width": size[1], "video.codec": "h264", "video.pix_fmt": "yuv420p",
            "video.is_depth_map": False, "video.fps": FPS, "video.channels": 3, "has_audio": False,
        },
    }  # fmt: skip
    features["timestamp"] = {"dtype": "float32", "shape": [1], "names": None}
    for name in _counters(np.zeros(0, int), 0, 0, 0):
        features[name] = {"dtype": "int64", "shape": [1], "names": None}
    return {
        "codebase_version": "v3.0", "robot_type": "panda", **counts,
        "chunks_size": CHUNK, "data_files_size_in_mb": DATA_MB, "video_files_size_in_mb": VIDEO_MB,
        "fps": FPS, "splits": {"train": f"0:{counts['total_episodes']}"},
        "data_path": DATA, "video_path": VIDEO, "features": features,
    }  # fmt: skip


def _write_tasks(file: Path, tasks: Sequence[str]) -> None:
    """A table whose index, as pandas notes it, are the tasks' words."""
    index = {
        "name": "task",
        "field_name": "task",
        "pandas_type": "unicode",
        "numpy_type": "object",
        "metadata": None,
    }
    value = {
        **index,
        "name": "task_index",
        "field_name": "task_index",
        "pandas_type": "int64",
        "numpy_type": "int64",
    }
    note = {"index_columns": ["task"], "column_indexes": [], "columns": [value, index]}
    table = pa.table({"task_index": pa.array(range(len(tasks))), "task": pa.array(tasks)})
    _write_table(file, table.replace_schema_metadata({"pandas": json.dumps(note)}))


def _write_table(file: Path, table: pa.Table) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, file)


def _write_json(file: Path, content: dict[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, indent=1) + "\n")
