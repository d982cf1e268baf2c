"""Many small files, read ahead on a few threads: on a shared disk each takes as long as its answer is on the way."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Read = TypeVar("Read")
THREADS = 8


def ahead(read: Callable[[Item], Read], items: Sequence[Item]) -> Iterator[Future[Read]]:
    """What `read` makes of each item, in order; its `result()` raises what `read` raised."""
    with ThreadPoolExecutor(THREADS) as pool:
        waiting: deque[Future[Read]] = deque()
        for item in items:
            waiting.append(pool.submit(read, item))
            if len(waiting) == 2 * THREADS:
                yield waiting.popleft()
        yield from waiting
