"""Where an episode's pictures lie."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from vidpara.types import Int, UInt8


@runtime_checkable
class Frames(Protocol):
    """Where the frames of one episode are read from."""

    @property
    def file(self) -> Path: ...

    def read(self, moments: Sequence[int]) -> UInt8[np.ndarray, "n h w 3"]:
        """The frames of these moments, upright, in the size they are stored in."""
        ...

    def blocks(self, moments: Sequence[int], size: int) -> Iterator[UInt8[np.ndarray, "n h w 3"]]:
        """The same, `size` frames at a time, of moments that ascend: what lies between two blocks is read once."""
        ...

    def fingerprint(self) -> str:
        """Text that changes when the pictures do, read without opening them."""
        ...


def parts(moments: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    """The moments, `size` at a time."""
    return (moments[first : first + size] for first in range(0, len(moments), size))


@dataclass(frozen=True)
class Chosen:
    """Some moments of other frames, in any order."""

    frames: Frames
    moments: Int[np.ndarray, "T"]

    @property
    def file(self) -> Path:
        return self.frames.file

    def read(self, moments: Sequence[int]) -> UInt8[np.ndarray, "n h w 3"]:
        return self.frames.read(self.moments[np.asarray(moments)].tolist())

    def blocks(self, moments: Sequence[int], size: int) -> Iterator[UInt8[np.ndarray, "n h w 3"]]:
        return self.frames.blocks(self.moments[np.asarray(moments)].tolist(), size)

    def fingerprint(self) -> str:
        return f"{self.frames.fingerprint()} {hashlib.sha256(self.moments.tobytes()).hexdigest()[:16]}"
