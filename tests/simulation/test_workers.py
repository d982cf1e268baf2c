"""Worker processes without a simulator: results, questions, and the ways to fail."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time

import pytest
import torch

from vidpara.cli import UserError
from vidpara.config import SceneConfig
from vidpara.simulation import workers

SCENE = SceneConfig(task=7)


class Nothing:
    def __init__(self, scene: SceneConfig) -> None:
        self.task = scene.task

    def close(self) -> None: ...


def unavailable(scene: SceneConfig) -> Nothing:
    raise UserError("no display here")


def add_task(simulator, item, ask):
    return simulator.task + item


def ask_twice(simulator, item, ask):
    return int(ask(torch.tensor(item))) + int(ask(torch.tensor(10 * item)))


def fail_at_two(simulator, item, ask):
    if item == 2:
        raise ValueError("item two is bad")
    return item


def die_at_two(simulator, item, ask):
    if item == 2:
        os._exit(17)
    return item


def tell_its_process(simulator, item, ask):
    return ask(os.getpid())


def sleep(simulator, item, ask):
    if item:
        time.sleep(60)
    return item


def test_every_item_is_computed_once_with_the_simulator_of_the_scene():
    results = dict(workers.run(range(5), add_task, SCENE, 2, make=Nothing))
    assert results == {index: 7 + index for index in range(5)}


def test_answers_reach_the_worker_that_asked():
    sizes = []

    def answer(requests):
        sizes.append(len(requests))
        return [request * 10 for request in requests]

    results = dict(workers.run([1, 2, 3], ask_twice, SCENE, 2, answer=answer, make=Nothing))
    assert results == {0: 110, 1: 220, 2: 330}
    assert sum(sizes) == 6 and max(sizes) <= 2


def test_a_question_without_someone_to_answer_is_an_error():
    with pytest.raises(RuntimeError, match="no `answer`"):
        list(workers.run([1], ask_twice, SCENE, 1, make=Nothing))


def test_an_exception_surfaces_with_its_traceback():
    with pytest.raises(RuntimeError, match=r"(?s)fail_at_two.*item two is bad"):
        list(workers.run(range(4), fail_at_two, SCENE, 1, make=Nothing))


def test_a_dead_process_is_an_error_and_not_a_result():
    with pytest.raises(RuntimeError, match="died with exit code 17"):
        list(workers.run(range(4), die_at_two, SCENE, 1, make=Nothing))


def test_a_worker_that_is_killed_while_it_waits_for_an_answer_is_an_error_too():
    def kill(requests: list[int]) -> list[int]:
        for request in requests:
            os.kill(request, signal.SIGKILL)
        time.sleep(0.5)  # until its end of the pipe is closed
        return requests

    with pytest.raises(RuntimeError, match="died with exit code -9"):
        list(workers.run(range(1), tell_its_process, SCENE, 1, kill, make=Nothing))


def test_a_users_mistake_stays_one():
    with pytest.raises(UserError, match="no display here"):
        list(workers.run(range(4), add_task, SCENE, 1, make=unavailable))


def test_no_process_outlives_an_abandoned_run():
    results = workers.run([0, 1, 1], sleep, SCENE, 2, make=Nothing)
    assert next(results) == (0, 0)
    results.close()  # pyright: ignore[reportAttributeAccessIssue]
    assert not [child for child in multiprocessing.active_children() if child.name.startswith("simulator-")]
