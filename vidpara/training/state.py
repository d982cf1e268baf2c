"""What a run must keep to go on bit for bit, and how it becomes a checkpoint."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vidpara.cli import UserError
from vidpara.training.checkpoint import Checkpoint
from vidpara.training.divided import all_whole, own_rows
from vidpara.training.ema import Ema
from vidpara.training.optimizer import load_optimizer_tensors, optimizer_tensors
from vidpara.training.tensor_files import ALONE, StoredTensors, Writer
from vidpara.training.weighting import LossWeights


@dataclass
class TrainingState:
    """The run's moving parts after `step` finished updates."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    ema: Ema
    weights: LossWeights
    scaler: torch.amp.GradScaler | None
    processes: int
    rank: int = 0
    content: str = ""
    """Digest of the data."""
    step: int = 0
    loss_sum: float = 0.0
    """Sum of the steps' losses since the last validation."""
    loss_count: int = 0

    def checkpoint(self, config: str, writer: Writer = ALONE) -> Checkpoint:
        """Everything, with `config` as the configuration that made it.

        Every process calls this. Of several processes that share the work each gets its own rows of divided weights;
        otherwise these are gathered, and only the first process gets tensors.
        """
        kinds = {
            "model": model_tensors(self.model),
            "ema": self.ema.tensors(),
            "optimizer": optimizer_tensors(self.model, self.optimizer),
        }
        first = self.rank == 0
        tensors = {
            kind: all_whole(found, keep=first) if writer.ranks == 1 else own_rows(found, first)
            for kind, found in kinds.items()
        }
        state = {
            "weights": self.weights.state(),
            "scaler": self.scaler.state_dict() if self.scaler else {},
            "loss_sum": self.loss_sum,
            "loss_count": self.loss_count,
            "processes": self.processes,
            "content": self.content,
        }
        return Checkpoint(self.step, config, tensors, state)

    def load(self, checkpoint: Checkpoint) -> None:
        """Put back what `checkpoint` gave; the model's own weights come before, with `load_model_tensors`."""
        self.ema.load(self._trained(checkpoint.tensors["ema"]))
        moments = self._trained(checkpoint.tensors["optimizer"], state=True)
        load_optimizer_tensors(self.model, self.optimizer, moments)
        self.weights.load(checkpoint.state["weights"])
        if self.scaler and checkpoint.state["scaler"]:
            self.scaler.load_state_dict(checkpoint.state["scaler"])
        self.step = checkpoint.step
        self.loss_sum, self.loss_count = checkpoint.state["loss_sum"], checkpoint.state["loss_count"]

    def _trained(self, tensors: Mapping[str, Tensor], state: bool = False) -> Mapping[str, Tensor]:
        """Without those of weights that have been frozen since: older versions trained weights that have no effect."""
        frozen = {name for name, value in self.model.named_parameters() if not value.requires_grad}
        kept = [name for name in tensors if (name.rpartition("/")[0] if state else name) not in frozen]
        return tensors.only(kept) if isinstance(tensors, StoredTensors) else {n: tensors[n] for n in kept}


def model_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and persistent buffers; a shared one appears once, as safetensors demands."""
    kept = model.state_dict().keys()
    named = itertools.chain(model.named_parameters(), model.named_buffers())
    return {name: value.detach() for name, value in named if name in kept}


@torch.no_grad()
def load_model_tensors(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Put back what `model_tensors` gave, or a part of it.

    Raises:
        UserError: the model has no such weight, or it has another shape.
    """
    own = model_tensors(model)
    for name, value in tensors.items():
        if name not in own or own[name].shape != value.shape:
            found = tuple(own[name].shape) if name in own else "absent"
            raise UserError(f"the checkpoint holds {name} {tuple(value.shape)}, the model has it {found}")
        own[name].copy_(value)
