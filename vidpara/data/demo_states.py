"""What a simulator needs of LIBERO files, each demo's model and states; and files of the same demos, other images."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import h5py
import numpy as np

from vidpara.cli import MissingError, UserError
from vidpara.data.published import camera_of
from vidpara.data.rollouts import open_file
from vidpara.data.write_rollouts import write_images
from vidpara.files import beside
from vidpara.types import StoredDemo, UInt8

ARRAYS = {
    "actions": "actions", "states": "states", "gripper_states": "obs/gripper_states",
    "joint_states": "obs/joint_states",
}  # fmt: skip
"""Fields of a `StoredDemo`, and where they stand in a demo's group."""


def read_stored(path: Path, name: str) -> StoredDemo:
    """One demo's model, states and actions.

    Raises:
        MissingError: the file does not hold them.
        UserError: they are not equally many, or no numbers.
    """
    where = f"{path}: {name}"
    with open_file(path) as file:
        demo, attributes = file["data"][name], file["data"].attrs
        places = ARRAYS | {"position": "obs/site_pos" if "obs/site_pos" in demo else "obs/ee_pos"}
        missing = [place for place in places.values() if place not in demo]
        missing += ["model_file"] if "model_file" not in demo.attrs else []
        if missing:
            raise MissingError(
                f"{where} has no {', '.join(missing)}, so the simulator cannot be set to what was recorded; take the "
                "file as LIBERO publishes it, or as stages/collect_rollouts.py writes it"
            )
        arrays = {field: np.asarray(demo[place][()], np.float64) for field, place in places.items()}
        text = str(attributes.get("bddl_file_content", ""))  # published files hold the file object's name
        task = text if text.lstrip().startswith("(") else str(attributes.get("bddl_file_name", ""))
        model = str(demo.attrs["model_file"])
    lengths = {places[field]: len(array) for field, array in arrays.items()}
    if len(set(lengths.values())) > 1 or not len(arrays["actions"]):
        raise UserError(f"{where} has unequal lengths or none: {lengths}")
    for field, array in arrays.items():
        if not np.isfinite(array).all():
            row = int(np.argwhere(~np.isfinite(array))[0, 0])
            raise UserError(
                f"{where}: {places[field]} holds what is no number in row {row}; leave the demo out"
            )
    return StoredDemo(name, task, model, **arrays)


def write_rendered(
    source: Path, part: Path, stored: StoredDemo, images: Mapping[str, UInt8[np.ndarray, "t h w 3"]]
) -> None:
    """The demo of `source` with other images (bottom row first) and their cameras, in a file of its own.

    Cameras that move with the robot have images and no parameters.
    """
    with beside(part) as unfinished, open_file(source) as file, h5py.File(unfinished, "w") as written:
        written.attrs.update(_attributes(file["data"].attrs, *next(iter(images.values())).shape[1:3]))
        before, demo = file["data"][stored.name], written.create_group("demo")
        demo.attrs.update(before.attrs)
        observations = demo.create_group("obs")
        _copy(before, demo, lambda key: key in ("obs", "camera"))
        _copy(before["obs"], observations, lambda key: key.endswith("_rgb"))
        for camera, frames in images.items():
            write_images(observations, camera, frames)
            try:
                seen_by = camera_of(stored.model_xml, camera, *frames.shape[1:3])
            except UserError:  # it moves with the robot
                continue
            for key, matrix in seen_by._asdict().items():
                demo[f"camera/{camera}/{key}"] = matrix.double().numpy()


def _copy(before: h5py.Group, after: h5py.Group, left_out: Callable[[str], bool]) -> None:
    for key in before:
        if not left_out(key):
            before.copy(key, after)


def _attributes(before: Mapping[str, object], rows: int, columns: int) -> dict[str, object]:
    """What a file says of itself, with the images' new size."""
    found = dict(before)
    try:
        environment = json.loads(str(found["env_args"]))
        environment["env_kwargs"] |= {"camera_heights": rows, "camera_widths": columns}
        found["env_args"] = json.dumps(environment)
    except (KeyError, TypeError, ValueError):
        pass  # not ours to mend
    return found
