"""Demonstrations -> LIBERO's HDF5 layout (its `scripts/create_dataset.py`), one part file a demo, then assembled.

As in the published files: `obs` row j is the observation AFTER `actions[j]`, `states` row j the state BEFORE it; images
are stored as rendered, bottom row first; the first rows of each demo are dropped. Beyond them: `camera/NAME` holds each
demo's intrinsics and pose, and `obs/site_pos`, `obs/site_ori` the frame in which OSC_POSE moves.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import h5py
import numpy as np

from vidpara.cli import UserError
from vidpara.data.rollouts import open_file
from vidpara.files import beside
from vidpara.types import Demonstration, UInt8


def write_part(path: Path, demo: Demonstration) -> None:
    """One demo in a file of its own; it appears under its name only when it is complete."""
    with beside(path) as part, h5py.File(part, "w") as file:
        file.attrs.update(demo.task)
        _write(file.create_group("demo"), demo)


def _write(group: h5py.Group, demo: Demonstration) -> None:
    steps = len(demo.actions)
    group.attrs["num_samples"] = steps
    group.attrs["model_file"] = demo.model_xml
    group.attrs["init_state"] = demo.states[0]
    group.attrs["start"] = json.dumps(demo.start._asdict())
    group["actions"] = demo.actions
    group["states"] = demo.states
    group["robot_states"] = np.concatenate([demo.gripper_states, demo.ee_pos, demo.ee_quat], axis=1)
    last = np.arange(steps) == steps - 1
    group["rewards"] = last.astype(np.uint8)
    group["dones"] = last.astype(np.uint8)
    obs = group.create_group("obs")
    obs["gripper_states"] = demo.gripper_states
    obs["joint_states"] = demo.joint_states
    obs["ee_states"] = np.concatenate([demo.ee_pos, demo.ee_ori], axis=1)
    obs["ee_pos"] = demo.ee_pos
    obs["ee_ori"] = demo.ee_ori
    obs["site_pos"] = demo.site_pos
    obs["site_ori"] = demo.site_ori
    for name, images in demo.images.items():
        write_images(obs, name, images)
    for name, (intrinsics, world_from_camera) in demo.cameras.items():
        camera = group.create_group(f"camera/{name}")
        camera["intrinsics"] = intrinsics
        camera["world_from_camera"] = world_from_camera


def write_images(observations: h5py.Group, camera: str, frames: UInt8[np.ndarray, "t h w 3"]) -> None:
    """A demo's images as LIBERO names them, one chunk a frame."""
    chunk = (1, *frames.shape[1:])
    observations.create_dataset(
        f"{camera}_rgb", data=frames, chunks=chunk, compression="gzip", compression_opts=1
    )


def assemble(output: Path, parts: Sequence[Path], config: str, attempts: int) -> int:
    """`join` the parts of a collection, in order."""
    named = {f"demo_{number}": part for number, part in enumerate(parts)}
    return join(output, named, {"attempts": attempts, "failures": attempts - len(parts), "config": config})


def join(output: Path, parts: Mapping[str, Path], attributes: Mapping[str, object]) -> int:
    """Join the parts, named as they are to be called, to `output`, which appears only when it is complete; returns the
    number of steps. `attributes` are added to what the parts say of their file.
    """
    total = 0
    with beside(output) as unfinished, h5py.File(unfinished, "w") as file:
        data = file.create_group("data")
        for name, part in parts.items():
            with h5py.File(part, "r") as source:
                source.copy("demo", data, name=name)
                total += len(source["demo/actions"])
                data.attrs.update(source.attrs)
        data.attrs.update({"num_demos": len(parts), "total": total, **attributes})
    return total


def begin(output: Path, content: str, settings: str) -> Path | None:
    """The folder where the parts of `output` are made; None if it is complete and has this `content`.

    `content` says what the file depends on, `settings` what its parts do.

    Raises:
        UserError: the output, or its parts, were made with other settings.
    """
    if output.exists():
        if config_of(output) != content:
            raise UserError(
                f"{output} exists and was made with other settings; choose another --output or delete it"
            )
        return None
    folder = output.with_name(f"{output.name}.parts")
    folder.mkdir(parents=True, exist_ok=True)
    note = folder / "config.yaml"
    if note.exists() and note.read_text() != settings:
        raise UserError(f"{folder} was begun with other settings; choose another --output or delete it")
    note.write_text(settings)
    return folder


def config_of(path: Path) -> str | None:
    """The configuration text that a file was made with; None for a file of other origin."""
    with open_file(path) as file:
        return file["data"].attrs.get("config") if "data" in file else None
