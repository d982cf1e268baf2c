"""Every setting in one place: one frozen dataclass a component, one a stage.

A component receives its own section and never the whole configuration. Lengths are metres, angles degrees, times
control steps (20 Hz) unless a name says otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal


# ---------------------------------------------------------------------------------------------- simulator, rollouts
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
    """Azimuths over the full circle x tilts from 0 to `tilt_max`, both ends included."""
    tilt_max: float = 25.0
    camera: str = "agentview"
    image_size: int = 128
    render: Literal["fast", "faithful"] = "fast"
    """`fast` renders without reflections and antialiasing; use one setting for data and evaluation."""


@dataclass(frozen=True)
class ExpertConfig:
    """The scripted demonstrator."""

    fixed_rotation: bool = True
    """Keep the gripper's home orientation (grasp directions ±y only), so that zero rotation can repeat the demo."""
    max_steps: int = 600
    speed: float = 1.0
    """Fraction of OSC_POSE's largest translation (0.05 m) that one command may ask for."""
    stay_in_view: bool = True
    """An attempt during which the end effector leaves the image counts as failed."""


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


# ------------------------------------------------------------------------------------------------------------- data
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
    clip: ClipConfig = field(default_factory=ClipConfig)
    demos: int = 0
    """Use only the first N training demos; 0 uses all."""
    validation_demos: int = 16
    """Demos held out from the end of the files; they are never trained on."""
    validation_clips: int = 96
    """Clips of the held-out demos, evenly spaced, that each validation looks at."""
    shift: int = 0
    """Augmentation: move a training clip's image, and its camera with it, by up to this many latent cells."""
    out_of_view: Literal["error", "mask"] = "error"
    """What to do with steps whose end effector is outside the image."""
    cache: Path | None = None
    """Folder of cached latents; by default beside the run."""


@dataclass(frozen=True)
class AutoencoderConfig:
    """Clip <-> latents."""

    kind: Literal["patch_pca", "svd"] = "patch_pca"
    weights: str | None = None
    """A saved autoencoder (folder or hub id). `patch_pca` is fitted on the rollouts when there is none."""
    patch: int = 8
    channels: int = 16


@dataclass(frozen=True)
class ImageEncoderConfig:
    """The cross-attention token: CLIP's embedding of the present frame, or SVD's unconditional zero token."""

    kind: Literal["zeros", "clip"] = "zeros"
    weights: str | None = None


# ------------------------------------------------------------------------------------------------------ video model
@dataclass(frozen=True)
class UNetConfig:
    """UNetSpatioTemporalConditionModel; the defaults are the pocket size."""

    weights: str | None = None
    """A diffusers UNet folder, a whole pipeline folder, or a hub id; None starts from random weights."""
    channels: tuple[int, ...] = (32, 64, 128)
    layers_per_block: int = 1
    attention: tuple[bool, ...] = (False, True, True)
    """Whether each resolution has transformer blocks, highest resolution first."""
    heads: int = 4
    context_dim: int = 64
    added_id_dim: int = 32


@dataclass(frozen=True)
class DiffusionConfig:
    """EDM with v-prediction, as in SVD (Karras et al. 2022; Blattmann et al. 2023)."""

    log_sigma_mean: float = 0.7
    log_sigma_std: float = 1.6
    sigma_max: float = 700.0
    blank: float = 0.0
    """Share of stage one's clips at `sigma_max` with the noise at its mean: what a policy with `future: mean` reads."""
    condition_noise_mean: float = -3.0
    condition_noise_std: float = 0.5
    """Log-normal noise added to the conditioning frame."""
    fps: int = 7
    motion_bucket: int = 127


# ------------------------------------------------------------------------------------------------------------ heads
@dataclass(frozen=True)
class HeadConfig:
    """Pixel-aligned actions, or the global baseline, on the video features."""

    kind: Literal["pixel", "global_regression"] = "pixel"
    grid: tuple[int, int] = (32, 32)
    """Rows and columns of the heatmap."""
    height_bins: int = 32
    gripper_bins: int = 32
    rotation_bins: int = 32
    width: int = 32
    """Channels of the head's convolutions and MLPs."""
    layers: int = 2
    """3 x 3 convolutions between the features and the volume."""
    loss: Literal["joint", "factored"] = "joint"
    """`joint`: one softmax over bins x pixels. `factored`: pixel softmax, then height softmax at the true pixel."""
    targets: Literal["soft", "hard"] = "soft"
    decode: Literal["local_mean", "argmax"] = "local_mean"


@dataclass(frozen=True)
class PolicyConfig:
    """Backbone x head: which features, at which noise, and how the losses are mixed."""

    taps: tuple[int, ...] = (1, 2)
    """Decoder blocks (`unet.up_blocks[i]`) whose outputs are the features."""
    sigma: float = 700.0
    """Noise level of the future frames for the action losses and at run time."""
    future: Literal["noise", "mean"] = "noise"
    """What stands in the future frames at `sigma`: a sample of pure noise, or its mean, which is zero. The network
    learns to ignore the sample at that level; with the mean there is nothing to ignore."""
    denoising_steps: int = 1
    """Forwards at run time; 1 reads the features at `sigma` and never generates the clip."""
    action_fraction: float = 0.75
    """Share of each batch at `sigma` with action losses; the rest trains the video loss at log-normal noise."""
    backbone: Literal["train", "frozen"] = "train"
    stop_gradient: bool = False
    """Do not let action losses reach the backbone."""
    head: HeadConfig = field(default_factory=HeadConfig)


# --------------------------------------------------------------------------------------------------------- training
@dataclass(frozen=True)
class OptimizerConfig:
    """The optimizer, with a learning rate per parameter group."""

    kind: Literal["adamw", "muon"] = "adamw"
    """`muon`: orthogonalised momentum for the video UNet's matrices and filters, AdamW for the rest. Learns from random
    weights in fewer steps; not for sharded weights."""
    lr: float = 1e-3
    backbone_lr: float | None = None
    """Learning rate of the video UNet, in both stages; None uses `lr`."""
    warmup: int = 50
    decay: Literal["cosine", "constant"] = "cosine"
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.99)
    clip_norm: float = 1.0

    @property
    def of_backbone(self) -> float:
        """The video UNet's learning rate."""
        return self.lr if self.backbone_lr is None else self.backbone_lr


@dataclass(frozen=True)
class TrainerConfig:
    """The one loop."""

    steps: int = 2000
    batch_size: int = 16
    """Samples a process and micro-step."""
    accumulate: int = 1
    precision: Literal["auto", "no", "bf16", "fp16"] = "auto"
    """`auto`: bf16 where the processor or GPU computes in it, else float32."""
    seed: int = 0
    ema: float = 0.999
    """Decay of the exponential moving average of the weights; 0 turns it off."""
    workers: int = 0
    log_every: int = 20
    validate_every: int = 500
    checkpoint_every: int = 500
    keep_checkpoints: int = 1
    overfit_one_sample: bool = False
    wandb: Literal["offline", "online", "disabled"] = "offline"
    project: str = "vidpara"


@dataclass(frozen=True)
class LossConfig:
    """Weights of the named losses. With `normalize` each loss is first divided by its running mean."""

    volume: float = 1.0
    position: float = 1.0
    """Of the global baseline, which has no volume."""
    gripper: float = 1.0
    rotation: float = 0.0
    video: float = 1.0
    normalize: bool = True
    decay: float = 0.99


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
    diffusion: DiffusionConfig = field(default_factory=DiffusionConfig)
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)


# ------------------------------------------------------------------------------------------------------- evaluation
@dataclass(frozen=True)
class ControllerConfig:
    """Servo to predicted world points."""

    execute: int = 3
    """Points of each chunk that are executed before the policy looks again."""
    stall: float = 0.01
    """Where the end effector has moved less than this (metres) since the last look, the whole chunk is executed: the
    same picture would give the same plan again. 0 turns it off."""
    rotation: Literal["zero", "predicted"] = "zero"
    gain: float = 1.4
    tolerance: float = 0.01
    """A point counts as reached within this distance."""
    steps_per_point: int = 3
    """Fewest control steps spent on a point, also when it is reached sooner: the clip's stride."""
    max_steps_per_point: int = 6


@dataclass(frozen=True)
class EvaluateConfig:
    """`stages/evaluate_policy.py`: closed loop in the simulator."""

    policy: Path = Path("runs/policy")
    output: Path = Path("runs/evaluation.json")
    cell: str = "two_stage"
    episodes: int = 50
    seed: int = 1000
    """Starts are drawn from this seed; collection with another seed never yields them."""
    max_steps: int = 400
    workers: int = 0
    """Simulator processes; 0 is one a core, 8 at most."""
    videos: int = 0
    """Record an mp4 of the first N episodes, with heatmap and predicted points, and a grid video of them."""
    scene: SceneConfig = field(default_factory=SceneConfig)
    controller: ControllerConfig = field(default_factory=ControllerConfig)


@dataclass(frozen=True)
class ReportConfig:
    """`stages/report.py`: results, runs and videos -> one self-contained HTML page."""

    output: Path = Path("demo/page.html")
    title: str = "PARA on a video backbone"
    baseline: str = "two_stage"
    """The cell that the others are compared with."""
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
class CheckConfig:
    """`stages/check_rollouts.py`: what the files say, drawn on the frames."""

    data: DataConfig = field(default_factory=DataConfig)
    head: HeadConfig = field(default_factory=HeadConfig)
    output: Path = Path("runs/check")
    demos: int = 2
    """Demos to make videos of."""
