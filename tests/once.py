"""What takes long to make and is only read: made by the first of pytest's processes that asks, and shared by all."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], Path]) -> Path:
    """The path that `make` returns, which it has filled in the folder that it is given."""
    base = factory.getbasetemp()
    root = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base  # of this run, not of this process
    with FileLock(root / f"{name}.lock"):
        made = root / f"{name}.path"
        if not made.is_file():
            folder = root / name
            folder.mkdir(exist_ok=True)
            made.write_text(str(make(folder)))
        return Path(made.read_text())
