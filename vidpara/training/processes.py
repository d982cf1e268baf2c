"""The processes of this launch, one or many."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from torch.distributed import PrefixStore, TCPStore

from vidpara.cli import UserError

R = TypeVar("R")
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
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if launched > 1 and restarts() and not torch.distributed.is_initialized():
        _meet_again(launched)
    state = PartialState(cpu=on_cpu(), timeout=PATIENCE)
    if state.num_processes != launched:
        raise UserError(
            f"the launcher started {launched} processes, Accelerate sees {state.num_processes}: make no PartialState "
            "or Accelerator before vidpara.training.processes.processes()"
        )
    return state


@contextlib.contextmanager
def launched() -> Iterator[None]:
    """Around what is launched in one process or many: in the end they part in an orderly way.

    Left to the interpreter's exit, gloo's threads can outlive what they work on: now and then a process of a finished
    training aborts, and its launcher reports a failure (torch 2.13). An error ends a process without ceremony, since
    the others may not come.
    """
    yield
    if torch.distributed.is_initialized():
        processes().wait_for_everyone()
        torch.distributed.destroy_process_group()


def first_only(act: Callable[[], object]) -> None:
    """Let the first process do something; every process calls this, and ends with its words if it fails.

    Raises:
        UserError: `act` raised it.
    """
    state, said = processes(), [""]
    if state.is_main_process:
        try:
            act()
        except UserError as error:
            said = [str(error)]
    if state.num_processes > 1:
        broadcast_object_list(said)
    if said[0]:
        raise UserError(said[0])


def after_the_first(read: Callable[[], R]) -> R:
    """What `read` gives; the first process reads before the others, which find what it keeps for the next time.

    Raises:
        UserError: `read` raised it, on whichever process.
    """
    found: list[R] = []
    first_only(lambda: found.append(read()))
    return found[0] if found else read()


def restarts() -> int:
    """How often the launcher has started this launch anew after a process failed (`--max_restarts`)."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))


def _meet_again(processes: int) -> None:
    """Join the others under keys of this life: the launcher's store still holds the addresses of the former one, and
    torch 2.13 would read them (every second restart failed to connect).
    """
    rank = int(os.environ["RANK"])
    store = TCPStore(
        os.environ["MASTER_ADDR"],
        int(os.environ["MASTER_PORT"]),
        processes,
        is_master=os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True" and rank == 0,
        timeout=PATIENCE,
        multi_tenant=True,
    )
    if not on_cpu():
        torch.accelerator.set_device_index(int(os.environ["LOCAL_RANK"]))
    torch.distributed.init_process_group(
        "gloo" if on_cpu() else "nccl",
        store=PrefixStore(f"restart-{restarts()}", store),
        rank=rank,
        world_size=processes,
        timeout=PATIENCE,
    )
