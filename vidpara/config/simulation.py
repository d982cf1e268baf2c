"""The simulated scene, its demonstrator and the servo."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class SceneConfig:
    """Which LIBERO task, and what its first state may look like."""

    suite: str = "libero_spatial"
    task: int = 0
    layout: Literal["clean", "original"] = "clean"
    """`clean`: only the objects of the goal on the table, placed by the grid. `original`: LIBERO's own init states."""
    x_range: tuple[float, float] = (-0.30, 0.09)
    y_range: tuple[float, float] = (-0.30, 0.30)
    grid: tuple[int, int] = (16, 16)
    """Cells along x and y; a start draws the object's cell and a uniform position inside it."""
    target: Literal["anywhere", "fixed"] = "anywhere"
    """Where the goal object (the plate) stands: drawn on the same grid, or always at `target_xy`."""
    target_xy: tuple[float, float] = (0.02, 0.20)
    separation: float = 0.17
    """Smallest distance between the centres of the object and its goal."""
    distractors: int = 0
    views: Literal["default", "sphere"] = "default"
    view_grid: tuple[int, int] = (8, 8)
    """Azimuths x tilts; tilts run from `tilt_min` to `tilt_max` (degrees), both ends included."""
    azimuths: tuple[float, float] = (0.0, 360.0)
    """Degrees over which the azimuths are spread, the last one excluded; 0 is the camera's right, 90 up, 180 left."""
    tilt_min: float = 0.0
    tilt_max: float = 25.0
    camera: str = "agentview"
    image_size: int = 128
    render: Literal["fast", "faithful"] = "fast"
    """`fast` renders without reflections and antialiasing; use one setting for data and evaluation."""


Mistake = Literal["misplaced", "missed", "strayed", "strayed_holding"]


@dataclass(frozen=True)
class ExpertConfig:
    """The scripted demonstrator."""

    fixed_rotation: bool = True
    """Keep the gripper's home orientation (grasp directions ±y only), so that zero rotation can repeat the demo."""
    rim: Literal["midline", "right"] = "midline"
    """Side of a rim with the home orientation: towards the table's midline, or the robot's right (-y) wherever the
    object is. The camera sees the hand everywhere with the first, but a policy has to see which side is in the hand."""
    max_steps: int = 600
    speed: float = 1.0
    """Fraction of OSC_POSE's largest translation (0.05 m) that one command may ask for."""
    recoveries: float = 0.0
    """Share of demonstrations that begin after a mistake."""
    mistakes: tuple[Mistake, ...] = ("misplaced", "missed")
    """Which ones, equally often: the object set down beside its goal, a missed grasp, the hand astray on the way to the
    object, the hand astray with the object in it."""
    stay_in_view: bool = True
    """An attempt during which the end effector leaves the image counts as failed."""


@dataclass(frozen=True)
class ControllerConfig:
    """Servo to predicted world points."""

    execute: int = 3
    """Points of each chunk that are executed before the policy looks again (elsewhere `n_action_steps`)."""
    stall: float = 0.01
    """Where the end effector has moved less than this (metres) since the last look, the whole chunk is executed: the
    same picture would give the same plan again. 0 turns it off."""
    ensemble: float | None = None
    """ACT's temporal ensembling: a point is the mean of all plans for its moment, weighted by exp(-ensemble * i) from
    the oldest plan on (0.01 in the paper). Needs `execute` 1 and `stall` 0."""
    rotation: Literal["zero", "predicted"] = "zero"
    """Keep the hand's home rotation, or follow the policy's, which must have been trained with `loss.rotation`."""
    gain: float = 1.4
    tolerance: float = 0.01
    """A point counts as reached within this distance."""
    steps_per_point: int = 3
    """Fewest control steps spent on a point, also when it is reached sooner: the clip's stride."""
    max_steps_per_point: int = 6
