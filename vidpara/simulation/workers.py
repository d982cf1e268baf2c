"""Simulators in processes of their own: a crash in one is an error with words, never a failed episode."""

from __future__ import annotations

import multiprocessing
import pickle
import signal
import traceback
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Literal, NamedTuple, TypeVar

import torch

from vidpara.cli import UserError
from vidpara.config import SceneConfig
from vidpara.cores import cores
from vidpara.types import Simulator

Item = TypeVar("Item")
Result = TypeVar("Result")
Ask = Callable[[Any], Any]
"""What a worker's function calls to have the parent answer a request, for instance an observation; it blocks."""
MOST = 8
"""Processes to start where the number is not said: each takes about 1.7 GB."""


class Message(NamedTuple):
    """What a worker tells the parent."""

    kind: Literal["ready", "ask", "done", "user_error", "error"]
    content: Any


class Worker(NamedTuple):
    """The parent's end of one worker."""

    process: BaseProcess
    pipe: Connection


def count(asked: int) -> int:
    """Processes to start: `asked`, or one a core up to `MOST` for 0.

    Raises:
        UserError: a negative number.
    """
    if asked < 0:
        raise UserError(f"--workers {asked}: give the number of simulator processes, or 0 for one a core")
    return asked or min(MOST, len(cores()))


def libero(scene: SceneConfig) -> Simulator:
    """The simulator that workers use by default, imported in the worker alone."""
    from vidpara.simulation.libero import LiberoSimulator

    return LiberoSimulator(scene)


def run(
    items: Sequence[Item],
    fn: Callable[[Any, Item, Ask], Result],
    scene: SceneConfig,
    workers: int,
    answer: Callable[[list[Any]], list[Any]] | None = None,
    make: Callable[[SceneConfig], Any] = libero,
) -> Iterator[tuple[int, Result]]:
    """Call `fn(simulator, item, ask)` for each item on `workers` spawned processes; yield (index, result) as they come.

    `ask(request)` inside `fn` blocks for the reply; the parent calls `answer` with all the requests that wait at that
    moment. `fn` and `make` are module-level functions, items and results picklable. However the iteration ends, the
    processes are gone afterwards.

    Raises:
        UserError: a worker raised one.
        RuntimeError: `fn` raised (the message holds its traceback), or a worker died.
    """
    queue = iter(enumerate(items))
    started: list[Worker] = []
    try:
        for number in range(min(workers, len(items))):
            started.append(_start(number, fn, scene, make))
        busy = {worker.pipe: worker for worker in started}
        while busy:
            asking: list[Worker] = []
            requests: list[Any] = []
            for pipe in wait(list(busy)):
                worker = busy[pipe]  # pyright: ignore[reportArgumentType]
                message = _receive(worker)
                if message.kind == "ask":
                    asking.append(worker)
                    requests.append(message.content)
                    continue
                if message.kind == "done":
                    yield message.content
                task = next(queue, None)
                _tell(worker, task)
                if task is None:
                    del busy[worker.pipe]
            if asking:
                _reply(asking, answer, requests)
        for worker in started:
            worker.process.join()
    finally:
        for worker in started:
            worker.process.terminate()
        for worker in started:
            worker.process.join()


def _start(number: int, fn: Callable[..., Any], scene: SceneConfig, make: Callable[..., Any]) -> Worker:
    context = multiprocessing.get_context("spawn")
    pipe, child_pipe = context.Pipe()
    process = context.Process(
        target=_work, args=(child_pipe, fn, scene, make), name=f"simulator-{number}", daemon=True
    )
    # Ctrl-C belongs to the parent, which ends its children: a child inherits the mask and never sees the signal.
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    child_pipe.close()
    return Worker(process, pipe)


def _reply(
    asking: list[Worker], answer: Callable[[list[Any]], list[Any]] | None, requests: list[Any]
) -> None:
    """Answer all the waiting requests in one call, so that the parent can batch them."""
    if answer is None:
        raise RuntimeError("a worker asked the parent, but run() was given no `answer`")
    for worker, reply in zip(asking, answer(requests), strict=True):
        _tell(worker, reply)


def _tell(worker: Worker, content: Any) -> None:
    try:
        _send(worker.pipe, content)
    except (BrokenPipeError, ConnectionResetError):
        raise _death(worker) from None


def _receive(worker: Worker) -> Message:
    try:
        message = pickle.loads(worker.pipe.recv_bytes())
    except (EOFError, ConnectionResetError):
        raise _death(worker) from None
    if message.kind == "user_error":
        raise message.content
    if message.kind == "error":
        raise RuntimeError(f"{worker.process.name} failed:\n{message.content}")
    return message


def _death(worker: Worker) -> RuntimeError:
    """What to say of a worker whose end of the pipe is closed."""
    worker.process.join()
    return RuntimeError(
        f"{worker.process.name} died with exit code {worker.process.exitcode} (negative: a signal; -9 is usually too "
        "little memory, about 1.7 GB a simulator: use fewer workers)"
    )


def _send(pipe: Connection, content: Any) -> None:
    """Plain pickle: multiprocessing's own pickler would move every tensor through shared memory."""
    pipe.send_bytes(pickle.dumps(content))


def _work(pipe: Connection, fn: Callable[..., Any], scene: SceneConfig, make: Callable[..., Any]) -> None:
    """Body of a worker: announce readiness, then compute items until the parent sends None."""
    torch.set_num_threads(1)

    def ask(request: Any) -> Any:
        _send(pipe, Message("ask", request))
        return pickle.loads(pipe.recv_bytes())

    try:
        simulator = make(scene)
        _send(pipe, Message("ready", None))
        while (task := pickle.loads(pipe.recv_bytes())) is not None:
            index, item = task
            _send(pipe, Message("done", (index, fn(simulator, item, ask))))
        simulator.close()
    except UserError as error:
        _send(pipe, Message("user_error", error))
    except (EOFError, BrokenPipeError):
        pass  # the parent is gone
    except Exception:  # not swallowed: the parent raises it with this text
        _send(pipe, Message("error", traceback.format_exc()))
