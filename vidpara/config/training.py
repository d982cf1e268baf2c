"""The loop, the optimizer and the losses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class OptimizerConfig:
    """The optimizer, with a learning rate per parameter group."""

    kind: Literal["adamw", "adamw8bit", "muon"] = "adamw"
    """`adamw8bit`: moments in 8 bits (bitsandbytes), a quarter of their memory. `muon`: orthogonalised momentum for the
    backbone's matrices and filters, AdamW for the rest; learns from random weights in fewer steps. Only `adamw` takes
    divided weights."""
    muon_head: bool = False
    """With `muon`, the action head's matrices follow it too, those of its inputs and outputs included."""
    lr: float = 1e-3
    backbone_lr: float | None = None
    """Learning rate of the backbone (video UNet, in both stages, or ViT); None uses `lr`."""
    warmup: int = 50
    decay: Literal["cosine", "constant"] = "cosine"
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.99)
    clip_norm: float = 1.0

    @property
    def of_backbone(self) -> float:
        """The backbone's learning rate."""
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
    """Loader processes of each training process, at most one a core of this machine in all: those beyond are not
    started."""
    log_every: int = 20
    validate_every: int = 500
    checkpoint_every: int = 500
    keep_checkpoints: int = 1
    checkpoints: Literal["whole", "sharded"] = "whole"
    """`sharded`: where weights are divided, each process writes the rows it holds, and nothing is gathered. Either kind
    is read by any number of processes, however they divide weights."""
    overfit_one_sample: bool = False
    """Train and validate on the first clip alone, unshifted: `val/position_error` must go to zero. The volume loss goes
    to the entropy of its targets, between 1 and 2 (with `policy.head.targets hard` to zero)."""
    wandb: Literal["offline", "online", "disabled"] = "offline"
    project: str = "vidpara"


@dataclass(frozen=True)
class LossConfig:
    """Weights of the named losses. With `normalize` each loss is first divided by its running mean."""

    volume: float = 1.0
    position: float = 1.0
    """Of the baselines, which have no volume."""
    kl: float = 10.0
    """Of ACT's CVAE."""
    gripper: float = 1.0
    rotation: float = 0.0
    """0: the policy keeps the hand's home rotation, as the demonstrations of this project do. Set it to 1 for data in
    which the hand turns."""
    video: float = 1.0
    normalize: bool = True
    decay: float = 0.99


@dataclass(frozen=True)
class HubConfig:
    """Where a finished run is uploaded to."""

    push: str = ""
    """OWNER/NAME on the Hugging Face hub; nothing is uploaded without one."""
    private: bool = True
