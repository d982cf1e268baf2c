"""The processes of this launch, one or many."""

from __future__ import annotations

import os
from datetime import timedelta

import torch
from accelerate import PartialState

from vidpara.cli import UserError

PATIENCE = timedelta(hours=2)
"""How long a process waits for another one, which may be encoding latents or running the simulator."""


def on_cpu() -> bool:
    """Whether this machine has no accelerator."""
    return not torch.accelerator.is_available()


def processes() -> PartialState:
    """This process's place among all. Use it instead of `PartialState()`, which on CPUs overlooks the others.

    Raises:
        UserError: the launcher started several processes, and they would each train alone.
    """
    state = PartialState(cpu=on_cpu(), timeout=PATIENCE)
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if state.num_processes != launched:
        raise UserError(
            f"the launcher started {launched} processes, Accelerate sees {state.num_processes}: make no PartialState "
            "or Accelerator before vidpara.training.processes.processes()"
        )
    return state
