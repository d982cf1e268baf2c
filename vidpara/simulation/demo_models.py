"""Tasks and models as LIBERO files hold them, made to load with the packages that are installed here."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any
from xml.etree import ElementTree

import numpy as np

from vidpara.cli import MissingError, UserError
from vidpara.simulation.libero import get_libero_path, mujoco, robosuite
from vidpara.types import StoredDemo

SITE = "gripper0_grip_site"
"""The end effector in LIBERO's models."""


def load_model(demo: StoredDemo) -> Any:
    """The demo's MuJoCo model, with the assets that are installed.

    Raises:
        UserError: MuJoCo cannot load it, or the states are not of it.
    """
    try:
        model = mujoco.MjModel.from_xml_string(installed(demo.model_xml))
    except (ValueError, UserError) as error:
        raise UserError(
            f"{demo.name}: its model_file cannot be loaded ({error}); is it of LIBERO with robosuite 1.4?"
        ) from error
    found, expected = demo.states.shape[1], 1 + model.nq + model.nv
    if found != expected:
        raise UserError(
            f"{demo.name}: states have {found} numbers, those of its model_file have {expected}: time, "
            f"{model.nq} positions, {model.nv} velocities; the two are not of the same recording"
        )
    return model


def installed(model_xml: str) -> str:
    """The model with every asset's path replaced by that of the installed LIBERO or robosuite, found by its tail.

    Raises:
        UserError: the text is not XML, or an asset is neither installed nor where the model says.
    """
    try:
        root = ElementTree.fromstring(model_xml)
    except ElementTree.ParseError as error:
        raise UserError(f"not a MuJoCo model: {error}") from error
    for element in root.iterfind("asset//*[@file]"):
        element.set("file", str(_installed(PurePosixPath(element.get("file", "").replace("\\", "/")))))
    return ElementTree.tostring(root, encoding="unicode")


def bddl_of(task: str) -> str:
    """The BDDL of a demo's task, from LIBERO's own files where the demo only names it.

    Raises:
        MissingError: LIBERO has no file of that name.
    """
    if task.lstrip().startswith("("):
        return task
    path, folder = PurePosixPath(task.replace("\\", "/")), Path(get_libero_path("bddl_files"))
    found = sorted(folder.rglob(path.name)) if path.name else []
    found.sort(key=lambda file: file.parent.name != path.parent.name)  # the suite that is named goes first
    if not found:
        raise MissingError(f"the file holds no BDDL, and LIBERO has none named '{path.name}' for its task")
    return found[0].read_text()


def integrate(model: Any, state: np.ndarray, seconds: float) -> np.ndarray:
    """The positions (`qpos`) of a flattened state, moved on by its velocities."""
    position, velocity = np.split(state[1:].copy(), [model.nq])
    mujoco.mj_integratePos(model, position, velocity, seconds)
    return position


def _installed(stored: PurePosixPath) -> Path:
    parts = stored.parts
    libero, of_robosuite = (
        Path(get_libero_path("assets")),
        Path(robosuite.__path__[0]) / "models/assets",
    )
    roots = (of_robosuite, libero) if "robosuite" in parts else (libero, of_robosuite)
    tails = [parts[place + 1 :] for place, part in enumerate(parts) if part == "assets"]
    for candidate in (root.joinpath(*tail) for root in roots for tail in reversed(tails)):
        if candidate.is_file():
            return candidate
    if Path(stored).is_file():
        return Path(stored)
    raise UserError(f"it refers to {stored}, which neither the installed LIBERO nor robosuite has")
