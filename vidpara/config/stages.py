"""One configuration a stage."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from vidpara.config.data import DataConfig
from vidpara.config.models import (
    AutoencoderConfig,
    DiffusionConfig,
    HeadConfig,
    ImageEncoderConfig,
    PolicyConfig,
    UNetConfig,
    ViTConfig,
)
from vidpara.config.simulation import ControllerConfig, ExpertConfig, SceneConfig
from vidpara.config.training import HubConfig, LossConfig, OptimizerConfig, TrainerConfig


@dataclass(frozen=True)
class CollectConfig:
    """`stages/collect_rollouts.py`: scripted expert -> LIBERO HDF5."""

    output: Path = Path("data/rollouts.hdf5")
    demos: int = 256
    seed: int = 0
    workers: int = 0
    """Simulator processes; 0 is one a core, 8 at most."""
    wrist_camera: bool = False
    scene: SceneConfig = field(default_factory=SceneConfig)
    expert: ExpertConfig = field(default_factory=ExpertConfig)


@dataclass(frozen=True)
class RenderConfig:
    """`stages/render_rollouts.py`: LIBERO HDF5 -> the same demos with images rendered anew from their states."""

    rollouts: Path = Path("data/rollouts.hdf5")
    output: Path = Path("data/rendered.hdf5")
    size: int | tuple[int, int] = 256
    """Rows and columns of the images; one number is both."""
    camera: tuple[str, ...] = ("agentview",)
    """Cameras of the demos' models; `eye_in_hand` is the wrist's, as LIBERO names it in its files."""
    render: Literal["as_recorded", "fast", "faithful"] = "as_recorded"
    """`fast` is without reflections and antialiasing; `as_recorded` takes what the demo's model says."""
    demos: int = 0
    """Render only the first N demos; 0 renders all."""
    workers: int = 0
    """Processes; 0 is one a core, 8 at most."""


@dataclass(frozen=True)
class CheckConfig:
    """`stages/check_data.py`: is the data right? Checks with fixes, and what the files say drawn on the frames."""

    data: DataConfig = field(default_factory=DataConfig)
    head: HeadConfig = field(default_factory=HeadConfig)
    output: Path = Path("runs/check")
    demos: int = 2
    """Episodes of each source to show."""
    decode: int = 8
    """Episodes of each source, evenly spread, whose pictures are decoded to the end; 0 decodes all."""
    replay: int = 2
    """Demos of LIBERO files whose actions are carried out in the simulator; 0 turns it off."""


@dataclass(frozen=True)
class TrainVideoConfig:
    """`stages/train_video.py`: stage one."""

    run: Path = Path("runs/video")
    data: DataConfig = field(default_factory=DataConfig)
    autoencoder: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    image_encoder: ImageEncoderConfig = field(default_factory=ImageEncoderConfig)
    unet: UNetConfig = field(default_factory=UNetConfig)
    diffusion: DiffusionConfig = field(default_factory=DiffusionConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    samples: int = 4
    """Validation clips generated beside the true ones."""
    sample_steps: int = 15
    hub: HubConfig = field(default_factory=HubConfig)
    plan: int = 0
    """Only print the memory that this training takes on so many GPUs."""


@dataclass(frozen=True)
class TrainPolicyConfig:
    """`stages/train_policy.py`: stage two and its variants."""

    run: Path = Path("runs/policy")
    video_run: Path | None = None
    """A stage-one run to start from; None starts from `unet.weights`, or from random weights."""
    data: DataConfig = field(default_factory=DataConfig)
    autoencoder: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    image_encoder: ImageEncoderConfig = field(default_factory=ImageEncoderConfig)
    unet: UNetConfig = field(default_factory=UNetConfig)
    vit: ViTConfig = field(default_factory=ViTConfig)
    diffusion: DiffusionConfig = field(default_factory=DiffusionConfig)
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    sample_steps: int = 15
    """Denoising steps of the imagined clips that validations show."""
    hub: HubConfig = field(default_factory=HubConfig)
    plan: int = 0
    """Only print the memory that this training takes on so many GPUs."""


@dataclass(frozen=True)
class EvaluateConfig:
    """`stages/evaluate_policy.py`: closed loop in the simulator."""

    policy: Path = Path("runs/policy")
    output: Path = Path("runs/evaluation.json")
    cell: str = ""
    """The policy's name in results and films; without one that of the output file."""
    episodes: int = 50
    seed: int = 1000
    """Starts are drawn from this seed; collection with another seed never yields them."""
    max_steps: int = 400
    workers: int = 0
    """Simulator processes; 0 is one a core, 8 at most."""
    denoising_steps: int = 0
    """Forwards of the UNet for a look; 0 takes the policy's own number."""
    precision: Literal["no", "bf16"] = "no"
    """What the policy computes in; `bf16` also rounds the backbone's weights to it, half the memory."""
    cuda_graph: bool = False
    """Record the backbone's forward as a CUDA graph, and replay it for every look."""
    camera_error: float = 0.0
    """Degrees by which the policy is told a camera that is turned, about an axis of its own in each episode."""
    held_out: bool = False
    """Also measure the plan's errors on the held-out demos of the policy's training."""
    videos: int = 0
    """Record an mp4 of the first N episodes, with heatmap and predicted points, and a grid video of them."""
    failures: int = 0
    """Record also the first N episodes that ended as MISS, and as GRASP; they are run once more for it. They have a
    grid video of their own."""
    scene: SceneConfig = field(default_factory=SceneConfig)
    controller: ControllerConfig = field(default_factory=ControllerConfig)


@dataclass(frozen=True)
class ReportConfig:
    """`stages/report.py`: results, runs and videos -> one self-contained HTML page."""

    output: Path = Path("demo/page.html")
    title: str = "PARA on a video backbone"
    baseline: str = ""
    """The cell that comes first, without one that of the first results file. Each is compared with the first one that
    has the same starts."""
    results: tuple[Path, ...] = ()
    """Results files of `stages/evaluate_policy.py`; their videos lie beside them."""
    runs: tuple[Path, ...] = ()
    """Run folders: loss curves from `metrics.jsonl`, strips and generated clips from `vis/`."""
    pictures: tuple[Path, ...] = ()
    """Further PNG or mp4 files, for instance the sanity picture of the data."""
    timings: Path | None = None
    """A JSON file {step: seconds} of how long each part took."""
    notes: tuple[str, ...] = ()
    """Sentences under the title: what was narrowed, what is not from this run."""


@dataclass(frozen=True)
class ExportConfig:
    """`stages/export_policy.py`: a finished run's weights in half precision."""

    run: Path = Path("runs/two_stage")
    """A policy, or a video model of stage one."""
    output: Path = Path("checkpoints/policy")


@dataclass(frozen=True)
class ExportLeRobotConfig:
    """`stages/export_lerobot.py`: LIBERO HDF5 -> LeRobotDataset v3.0."""

    rollouts: tuple[Path, ...] = (Path("data/rollouts.hdf5"),)
    """LIBERO HDF5 files, or folders of them, one after the other; each file brings its task."""
    output: Path = Path("data/lerobot")
    """Folder of the dataset; it must not exist yet."""
    camera: str = "agentview"
    demos: int = 0
    """Export only the first N demos of each file; 0 exports all."""
    size: tuple[int, int] | None = None
    """Rows and columns that images are resized to, the camera with them; None keeps the files' size."""
    crf: int = 18
    """Quality of the H.264 videos: 0 is lossless, 18 is hardly visible, 30 is small."""
    gop: int = 10
    """Frames from keyframe to keyframe; short ones make random clips fast to read."""
