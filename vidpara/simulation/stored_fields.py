"""What LIBERO's files store of a task and of the robot, beside states and actions."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from vidpara.types import Float


class TaskDescription(NamedTuple):
    """The task as LIBERO's files describe it; `file` is where the BDDL lies in LIBERO's tree."""

    file: str
    bddl: str
    language: str
    environment: str
    problem: str
    domain: str


class RobotRecord(NamedTuple):
    """The robot as LIBERO's files store it; `ee_*` is the hand body's orientation, `site_*` the frame of OSC_POSE."""

    gripper_states: Float[np.ndarray, "2"]
    joint_states: Float[np.ndarray, "7"]
    ee_pos: Float[np.ndarray, "3"]
    ee_ori: Float[np.ndarray, "3"]
    ee_quat: Float[np.ndarray, "4"]
    site_pos: Float[np.ndarray, "3"]
    site_ori: Float[np.ndarray, "3 3"]
