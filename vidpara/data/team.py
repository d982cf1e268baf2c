"""The processes that encode together."""

from __future__ import annotations

from typing import NamedTuple, Protocol, runtime_checkable

import torch


@runtime_checkable
class Team(Protocol):
    """The processes that encode together, as this one sees them (Accelerate's PartialState)."""

    process_index: int
    num_processes: int
    device: torch.device

    def wait_for_everyone(self) -> None: ...


class Alone(NamedTuple):
    """A team of one, on the CPU if nothing else is said."""

    process_index: int = 0
    num_processes: int = 1
    device: torch.device = torch.device("cpu")

    def wait_for_everyone(self) -> None:
        """There is nobody to wait for."""


ALONE = Alone()
