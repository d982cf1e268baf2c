"""Demonstrations -> LIBERO's HDF5 layout (its `scripts/create_dataset.py`), one part file a demo, then assembled.

As in the published files: `obs` row j is the observation AFTER `actions[j]`, `states` row j the state BEFORE it; images
are stored as rendered, bottom row first; the first rows of each demo are dropped. Beyond them: `camera/NAME` holds each
demo's intrinsics and pose, and `obs/site_pos`, `obs/site_ori` the frame in which OSC_POSE moves.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np

from vidpara.types import Demonstration


def write_part(path: Path, demo: Demonstration) -> None:
    """One demo in a file of its own; it appears under its name only when it is complete."""
    unfinished = path.with_suffix(".part")
    with h5py.File(unfinished, "w") as file:
        file.attrs.update(demo.task)
        _write(file.create_group("demo"), demo)
    os.replace(unfinished, path)


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
        obs.create_dataset(
            f"{name}_rgb", data=images, chunks=(1, *images.shape[1:]), compression="gzip", compression_opts=1
        )
    for name, (intrinsics, world_from_camera) in demo.cameras.items():
        camera = group.create_group(f"camera/{name}")
        camera["intrinsics"] = intrinsics
        camera["world_from_camera"] = world_from_camera


def assemble(output: Path, parts: Sequence[Path], config: str, attempts: int) -> int:
    """Join the parts, in order, to `output`, which appears only when it is complete; returns the number of steps."""
    unfinished = output.with_name(f"{output.name}.part")
    total = 0
    with h5py.File(unfinished, "w") as file:
        data = file.create_group("data")
        for number, part in enumerate(parts):
            with h5py.File(part, "r") as source:
                source.copy("demo", data, name=f"demo_{number}")
                total += len(source["demo/actions"])
                data.attrs.update(source.attrs)
        data.attrs["num_demos"] = len(parts)
        data.attrs["total"] = total
        data.attrs["attempts"] = attempts
        data.attrs["failures"] = attempts - len(parts)
        data.attrs["config"] = config
    os.replace(unfinished, output)
    return total


def config_of(path: Path) -> str | None:
    """The configuration text that a file was collected with; None for a file of other origin."""
    with h5py.File(path, "r") as file:
        return file["data"].attrs.get("config") if "data" in file else None
