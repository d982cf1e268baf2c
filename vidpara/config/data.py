"""Rollouts on disk -> clips of latents."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class ClipConfig:
    """One training clip: the present frame and `frames - 1` future ones, `stride` control steps apart."""

    frames: int = 7
    stride: int = 3


@dataclass(frozen=True)
class DataConfig:
    """Rollouts on disk -> clips."""

    rollouts: tuple[Path, ...] = (Path("data/rollouts.hdf5"),)
    camera: str = "agentview"
    size: tuple[int, int] | None = None
    """Rows and columns that images are resized to, the camera with them; None keeps the files' size."""
    clip: ClipConfig = field(default_factory=ClipConfig)
    demos: int = 0
    """Use only N of the training demos, chosen by `choose`; 0 uses all."""
    choose: Literal["first", "corners"] = "first"
    """`first`: those that stand first in the files. `corners`: by where they grasp, the corners of the table first,
    then whichever is farthest from all that are chosen."""
    unlabelled: bool = False
    """The training demos that `demos` leaves out serve the video loss, in the same batches, without their actions."""
    validation_demos: int = 16
    """Demos held out from the end of the files; they are never trained on."""
    validation_clips: int = 96
    """Clips of the held-out demos, evenly spaced, that each validation looks at."""
    shift: int = 0
    """Augmentation: move a training clip's image, and its camera with it, by up to this many latent cells."""
    until: Literal["end", "release"] = "end"
    """The last present of a demo: its last moment, or the last release. After that nothing is left to do but to retreat
    and rest; a policy that learns to rest there also rests above an object that it has not grasped or has set down in
    the wrong place."""
    out_of_view: Literal["error", "mask"] = "error"
    """What to do with steps whose end effector is outside the image."""
    cache: Path | None = None
    """Folder of cached latents; by default beside the run."""
