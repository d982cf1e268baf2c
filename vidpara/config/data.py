"""Episodes on disk -> clips of latents."""

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
class LeRobotConfig:
    """Which columns of a LeRobotDataset hold what, and from which index of the column's values on.

    The defaults are the layout of LIBERO's LeRobot versions and of `stages/export_lerobot.py`: the state is
    end-effector point, axis-angle and two finger positions; the action ends with the gripper.
    """

    position: str = "observation.state"
    """End-effector point: three metres, in the world of the cameras."""
    position_at: int = 0
    rotation: str = "observation.state"
    """End-effector rotation in that world; `none` where it was not recorded: positions are learnt without it."""
    rotation_at: int = 3
    rotation_as: Literal["axis_angle", "euler_xyz", "quaternion_xyzw", "quaternion_wxyz", "matrix"] = (
        "axis_angle"
    )
    """Radians; Euler angles about the fixed axes x, y, z; matrices row by row."""
    rotation_of: Literal["site", "hand"] = "site"
    """Whose rotation it is, of a Panda in robosuite: the grip site's, as this project records it, or that of the hand
    body, which LIBERO's own files hold and datasets made from them; it is a quarter turn off."""
    opening: str = "observation.state"
    """What the gripper's opening (metres) is the sum of, signs dropped: the fingers' positions. `none` where it was not
    measured: then the policy is told 0."""
    opening_at: tuple[int, ...] = (6, 7)
    opening_range: tuple[float, float] = (0.0, 1.0)
    """Metres of opening that a sum of 0 and a sum of 1 stand for."""
    gripper: str = "action"
    """The gripper's command."""
    gripper_at: int = 6
    gripper_open: float = -1.0
    gripper_closed: float = 1.0
    """Values of the command that stand for open and closed; those between are in proportion."""
    gripper_leads: bool = True
    """Row j's command is carried out after frame j, as LeRobot records actions; off for a measured state."""
    extrinsics: str = ""
    """Column with the camera's pose in that world: x, y, z (metres) and Euler angles (radians, about the fixed axes x,
    y, z). `{}` stands for the camera's name. Its intrinsics then come from `data.cameras`."""


@dataclass(frozen=True)
class DataConfig:
    """Episodes on disk -> clips."""

    rollouts: tuple[Path, ...] = (Path("data/rollouts.hdf5"),)
    """LIBERO HDF5 files, LeRobotDataset folders (or `hf://OWNER/NAME`), folders of videos; see docs/data.md."""
    weights: tuple[float, ...] = ()
    """How often each of `rollouts` is drawn, one number each; without them every clip is drawn equally often."""
    tasks: tuple[str, ...] = ()
    """Use only episodes whose instruction contains one of these, in any case of letters."""
    camera: str | tuple[str, ...] = "agentview"
    """Of LIBERO files and LeRobotDatasets: whose images are seen. One name, or one for each of `rollouts`."""
    cameras: Path | None = None
    """YAML file with the cameras' parameters, for LeRobotDatasets that do not hold them."""
    lerobot: LeRobotConfig = field(default_factory=LeRobotConfig)
    decoder: Literal["pyav", "decord", "torchcodec"] = "pyav"
    """What decodes videos; decord is an extra (`vidpara[video]`) and reads fewer codecs, torchcodec must fit PyTorch
    and find FFmpeg's libraries."""
    size: tuple[int, int] | None = None
    """Rows and columns that images are resized to, the camera with them; None keeps the files' size."""
    fps: float | None = None
    """Moments a second that episodes are brought to, each what was recorded nearest to it; None keeps their own. LIBERO
    has 20, and a control step is one moment."""
    clip: ClipConfig = field(default_factory=ClipConfig)
    demos: int = 0
    """Use only N of the training demos, chosen by `choose`; 0 uses all."""
    choose: Literal["first", "corners"] = "first"
    """`first`: of each task in turn, with seed 0 (`trainer.seed`) those that stand first in the files, with any other
    as many drawn by it, so that seeds vary the demos, too. `corners`: by where they grasp, the corners of the table
    first, then whichever is farthest from all that are chosen."""
    unlabelled: bool = False
    """The training demos that `demos` leaves out serve the video loss, in the same batches, without their actions."""
    validation_demos: int = 16
    """Demos held out from the ends of the sources, of each one's tasks in proportion; they are never trained on."""
    validation_clips: int = 96
    """Clips of the held-out demos, evenly spaced, that each validation looks at."""
    shift: int = 0
    """Augmentation: move a training clip's image, and its camera with it, by up to this many latent cells."""
    until: Literal["end", "release"] = "end"
    """The last present of a demo: its last moment, or the last release. The gripper's command says where that is, also
    of demos whose actions are not used otherwise. After it nothing is left to do but to retreat and rest; a policy that
    learns to rest there also rests above an object that it has not grasped or has set down in the wrong place."""
    workspace: tuple[float, float, float, float, float, float] | None = None
    """The lowest x, y, z (metres) and the highest that a policy can be asked for: the range of height bins, and of the
    coordinates that are regressed. None: what all demos of the files cover, also those that are
    held out or left out by `demos`, and 2 cm around it."""
    out_of_view: Literal["error", "mask"] = "error"
    """What to do with steps whose end effector is outside the image."""
    on_error: Literal["error", "skip"] = "error"
    """What to do with an episode or source that cannot be read. `skip` names each and says how many were left out."""
    cache: Path | None = None
    """Folder of cached latents; by default beside the first source."""
    store: str = ""
    """Folder, as a URL (s3://, gs://, file://), from which shards of latents are fetched, and where new ones are put:
    for machines that share no disk."""
