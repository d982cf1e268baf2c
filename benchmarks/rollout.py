"""An episode in LIBERO as most evaluations run it over the same episode in our simulator.

Theirs: a hard reset, and the camera rendered at every step. Ours: a soft reset, and the camera rendered when the policy
looks, every 12 steps (12.5 in `results/recovery/two_stage.json`). Both go from the same of LIBERO's initial states
through the same commands, in one process. Guard: every state is the same, bit for bit, and so is every image of it;
what robosuite's `step` returns is an image of a moment up to one physics step earlier, so theirs is rendered anew for
this. `fast` is the ratio with the renderer that our evaluation uses, which leaves out antialiasing and reflections;
several episodes at a time come on top.
"""

from __future__ import annotations

import contextlib
import io
import statistics
from pathlib import Path

import numpy as np
from libero.libero import benchmark, get_libero_path
from libero.libero.envs import OffScreenRenderEnv

from benchmarks.harness import interleaved, report
from vidpara.config import SceneConfig
from vidpara.simulation.libero import NO_OP, LiberoSimulator
from vidpara.simulation.scene import SETTLE_STEPS
from vidpara.types import EpisodeStart

STEPS, LOOK_EVERY = 48, 12
SCENE = SceneConfig(layout="original", render="faithful")
START = EpisodeStart(seed=3, objects=(), view=(0.0, 0.0))
COMMANDS = np.random.default_rng(0).uniform(-1, 1, (STEPS, 7))


class Usual:
    """LIBERO's environment with its own settings."""

    def __init__(self, config: SceneConfig) -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            suite = benchmark.get_benchmark_dict()[config.suite]()
            task = suite.get_task(config.task)
            file = Path(get_libero_path("bddl_files")) / task.problem_folder / task.bddl_file
            self.init_states = suite.get_task_init_states(config.task)
            self.environment = OffScreenRenderEnv(
                bddl_file_name=str(file),
                camera_names=[config.camera],
                camera_heights=config.image_size,
                camera_widths=config.image_size,
            )
        self.image = f"{config.camera}_image"

    def episode(self, anew: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """States of all steps, and the images at the policy's looks, as they come or rendered `anew`."""
        self.environment.seed(START.seed)
        self.environment.reset()
        seen = self.environment.set_init_state(self.init_states[START.seed % len(self.init_states)])
        for _ in range(SETTLE_STEPS):
            seen, *_ = self.environment.step(NO_OP)
        states, images = [], []
        for step, command in enumerate(COMMANDS):
            if step % LOOK_EVERY == 0:
                images.append((self.render() if anew else seen[self.image])[::-1])
            seen, *_ = self.environment.step(command)
            states.append(self.environment.get_sim_state())
        return np.stack(states), np.stack(images)

    def render(self) -> np.ndarray:
        size = SCENE.image_size
        return self.environment.sim.render(camera_name=SCENE.camera, width=size, height=size)


def ours(simulator: LiberoSimulator) -> tuple[np.ndarray, np.ndarray]:
    """The same in our simulator."""
    simulator.reset(START)
    states, images = [], []
    for step, command in enumerate(COMMANDS):
        if step % LOOK_EVERY == 0:
            images.append(simulator.observe().image.numpy())
        simulator.step(command)
        states.append(simulator.state())
    return np.stack(states), np.stack(images)


if __name__ == "__main__":
    usual, simulator = Usual(SCENE), LiberoSimulator(SCENE)
    pairs = zip(usual.episode(anew=True), ours(simulator), strict=True)
    same = all(np.array_equal(theirs, mine) for theirs, mine in pairs)
    a, b = interleaved(usual.episode, lambda: ours(simulator))
    fast = LiberoSimulator(SceneConfig(layout="original", render="fast"))
    slow, quick = interleaved(usual.episode, lambda: ours(fast), pairs=3)
    ratio = statistics.median(x / y for x, y in zip(slow, quick, strict=True))
    for each in (usual.environment, simulator, fast):
        each.close()  # the interpreter's exit would be too late for their contexts
    report("rollout", a, b, f"s an episode of {STEPS} steps", same, 5.0, fast=round(ratio, 1))
