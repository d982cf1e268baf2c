"""The servo from a wanted end-effector pose to one OSC_POSE command."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from vidpara.config import ControllerConfig
from vidpara.types import Float, Proprioception

TRANSLATION = 0.05
"""Metres that a command of 1 asks for."""
ROTATION = 0.5
"""Radians that a command of 1 asks for."""


def command(
    proprioception: Proprioception,
    position: Float[np.ndarray, "3"],
    rotation: Float[np.ndarray, "3 3"] | None,
    gripper: float,
    config: ControllerConfig,
    limit: float = 1.0,
) -> Float[np.ndarray, "7"]:
    """One OSC_POSE command towards `position` (metres, world) and `rotation`, with closing `gripper` in [0, 1].

    A translation longer than `limit` (a fraction of 0.05 m, on its largest axis) is shortened and keeps its direction.
    Without a rotation the three rotation numbers are exactly 0: OSC_POSE then keeps its last orientation goal, which
    is the home orientation from reset on, so the wrist is held stiffly and does not drift; a feedback term would only
    replace that fixed goal by one that moves along with the measured error.
    """
    translation = config.gain * (position - proprioception.position) / TRANSLATION
    translation *= limit / max(limit, float(np.abs(translation).max()))
    turn = np.zeros(3)
    if rotation is not None:
        turn = Rotation.from_matrix(rotation @ proprioception.rotation.T).as_rotvec() / ROTATION
        turn /= max(1.0, float(np.abs(turn).max()))
    return np.concatenate([translation, turn, [2.0 * float(np.clip(gripper, 0.0, 1.0)) - 1.0]])
