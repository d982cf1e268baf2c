"""Ctrl-C as a request that the loop answers between two steps."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

GRACE = 1.0
"""Seconds in which further signals are the same request: on Ctrl-C a launcher passes on what the terminal sends too."""


class StopRequest:
    """Whether SIGINT or SIGTERM came."""

    def __init__(self) -> None:
        self.asked = False


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Inside the block, the first SIGINT or SIGTERM only sets the request, so that no update is cut in half.

    A later one raises KeyboardInterrupt on the spot.
    """
    request = StopRequest()
    first = 0.0
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal first
        if request.asked and time.monotonic() - first > GRACE:
            raise KeyboardInterrupt
        if not request.asked:
            request.asked, first = True, time.monotonic()

    for number in before:
        signal.signal(number, ask)
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
