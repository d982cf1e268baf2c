"""One process at a time: what a command writes to is not written to by a second one meanwhile."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from vidpara.cli import UserError


@contextlib.contextmanager
def exclusive(lock: Path, taken: str) -> Iterator[None]:
    """Hold the file `lock`, which is removed in the end; if the process is killed, the system lets go of it.

    Raises:
        UserError: another process holds it; `taken` says what that means.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    try:
        held = FileLock(lock, timeout=0).acquire()
    except Timeout:
        raise UserError(taken) from None
    with held:
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)
