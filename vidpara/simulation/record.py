"""Run the expert and keep what LIBERO's files hold; many starts on several simulators, resumable."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from vidpara.cli import UserError
from vidpara.config import CollectConfig, ExpertConfig
from vidpara.geometry.camera import inside, project
from vidpara.simulation import scene, workers
from vidpara.simulation.expert import commands
from vidpara.simulation.mistakes import mistake
from vidpara.types import Camera, Demonstration, EpisodeStart

if TYPE_CHECKING:
    from vidpara.simulation.libero import LiberoSimulator

DROPPED = 5
"""Rows that LIBERO drops from the beginning of each demo."""
STILL = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0])
CONTROL_STEP = 0.05
"""Seconds from one command to the next."""
HOPELESS_AFTER = 8
"""Attempts after which a collection with fewer than one success in ten stops."""
WRIST = "robot0_eye_in_hand"


class Attempt(NamedTuple):
    """One start for one worker, and where a successful demo goes."""

    start: EpisodeStart
    path: Path
    expert: ExpertConfig
    wrist_camera: bool
    save: Callable[[Path, Demonstration], None]


class Collected(NamedTuple):
    """The successful demos' files in the order of their starts, and how many starts that took."""

    parts: list[Path]
    attempts: int


def record(
    simulator: LiberoSimulator, start: EpisodeStart, expert: ExpertConfig, wrist_camera: bool = False
) -> Demonstration | None:
    """One demonstration from `start`, None if the expert fails (or leaves the image, with `expert.stay_in_view`).

    With `expert.recoveries` some begin after a mistake. The hand first stands still for the rows that are dropped and
    one more, so that the file's first row shows the state in which a policy's episode begins. Observations are taken
    after each action, states before.
    """
    simulator.reset(start)
    still, lifted = STILL, False
    made = mistake(simulator, expert, start.seed)
    for action in made.commands:
        _, progress = simulator.step(action)
        still, lifted = np.append(STILL[:-1], action[-1]), progress.lifted
    if lifted != made.holding or simulator.succeeded():
        return None  # another mistake than was meant, or none
    view = simulator.config.camera
    cameras = {view: view} | ({"eye_in_hand": WRIST} if wrist_camera else {})
    images: dict[str, list[np.ndarray]] = {name: [] for name in cameras}
    actions, states, rows = [], [], []

    def take(action: np.ndarray) -> None:
        state = simulator.state()
        simulator.step(action)
        if len(actions) >= DROPPED:
            for name, camera in cameras.items():
                images[name].append(simulator.render(camera, simulator.config.image_size))
        actions.append(action)
        states.append(state)
        rows.append(simulator.record())

    for _ in range(DROPPED + 1):
        take(still)
    for action in commands(simulator, expert):
        take(action)
    if not simulator.succeeded():
        return None
    intrinsics, world_from_camera = simulator.camera_matrices()
    columns = {name: np.stack([getattr(row, name) for row in rows[DROPPED:]]) for name in rows[0]._fields}
    camera = Camera(torch.from_numpy(intrinsics), torch.from_numpy(world_from_camera))
    pixel = project(torch.from_numpy(columns["site_pos"]), camera)
    size = simulator.config.image_size
    if expert.stay_in_view and not bool(inside(pixel, size, size).all()):
        return None
    return Demonstration(
        task=attributes(simulator),
        start=start,
        model_xml=simulator.model_xml(),
        actions=np.stack(actions[DROPPED:]),
        states=np.stack(states[DROPPED:]),
        images={name: np.stack(frames) for name, frames in images.items()},
        cameras={view: (intrinsics, world_from_camera)},
        **columns,
    )


def attributes(simulator: LiberoSimulator) -> dict[str, str]:
    """What LIBERO's files say about the task: its BDDL, its language, and how to build the environment."""
    task, size = simulator.description, simulator.config.image_size
    settings = {
        "robots": ["Panda"],
        "controller_configs": simulator.controller(),
        "bddl_file_name": task.file,
        "has_renderer": False,
        "has_offscreen_renderer": True,
        "ignore_done": True,
        "use_camera_obs": True,
        "camera_depths": False,
        "camera_names": [WRIST, "agentview"],
        "reward_shaping": True,
        "control_freq": 20,
        "camera_heights": size,
        "camera_widths": size,
        "camera_segmentations": None,
    }
    problem = {
        "problem_name": task.problem,
        "domain_name": task.domain,
        "language_instruction": task.language,
    }
    environment = {
        "type": 1,
        "env_name": task.environment,
        "problem_name": task.problem,
        "bddl_file": task.file,
    }
    return {
        "env_name": task.environment,
        "problem_info": json.dumps(problem),
        "macros_image_convention": "opengl",
        "bddl_file_name": task.file,
        "bddl_file_content": task.bddl,
        "env_args": json.dumps(environment | {"env_kwargs": settings}),
        "tag": "libero-v1",
    }


def collect(config: CollectConfig, folder: Path, save: Callable[[Path, Demonstration], None]) -> Collected:
    """Demonstrations from the first starts at which the expert succeeds, `config.demos` of them, into `folder`.

    Each finished start leaves a file there, so a stopped collection goes on where it was; which starts are used
    depends neither on that nor on the number of workers. Failures are counted, never kept.

    Raises:
        UserError: the expert hardly ever succeeds.
    """
    parts: list[Path] = []
    attempts = 0
    with tqdm(total=config.demos, unit="demo") as bar:
        while len(parts) < config.demos:
            first, attempts = attempts, attempts + config.demos - len(parts)
            results = _attempt_range(config, folder, save, range(first, attempts), bar)
            parts.extend(
                folder / f"{index:06d}.hdf5" for index, success in sorted(results.items()) if success
            )
            if attempts >= HOPELESS_AFTER and len(parts) < attempts / 10:
                raise UserError(
                    f"the expert succeeded at {len(parts)} of {attempts} starts. It can pick and place only: choose "
                    "another --scene.task, or let it turn the wrist with --expert.fixed-rotation False"
                )
    return Collected(parts, attempts)


def _attempt_range(
    config: CollectConfig,
    folder: Path,
    save: Callable[[Path, Demonstration], None],
    indices: range,
    bar: tqdm,
) -> Mapping[int, bool]:
    results: dict[int, bool] = {}

    def note(index: int, success: bool) -> None:
        results[index] = success
        bar.update(success)
        bar.set_postfix(success=f"{sum(results.values())}/{len(results)}")

    starts = scene.starts(config.scene, indices.stop, config.seed)
    todo: list[int] = []
    items: list[Attempt] = []
    for index in indices:
        path = folder / f"{index:06d}.hdf5"
        if path.exists():
            note(index, True)
        elif path.with_suffix(".failed").exists():
            note(index, False)
        else:
            todo.append(index)
            items.append(Attempt(starts[index], path, config.expert, config.wrist_camera, save))
    for place, success in workers.run(items, attempt, config.scene, workers.count(config.workers)):
        note(todo[place], success)
    return results


def attempt(simulator: LiberoSimulator, item: Attempt, ask: workers.Ask) -> bool:
    """Worker function: record one start; a failure leaves an empty mark, so that it is not tried again."""
    demo = record(simulator, item.start, item.expert, item.wrist_camera)
    if demo is None:
        item.path.with_suffix(".failed").touch()
    else:
        item.save(item.path, demo)
    return demo is not None
