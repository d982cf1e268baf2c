"""Images of recorded states, anew: any size, any camera of the demo's own model."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from tqdm import tqdm

from vidpara.cli import UserError, nearest
from vidpara.config import RenderConfig, SceneConfig
from vidpara.simulation import workers
from vidpara.simulation.record import CONTROL_STEP, WRIST
from vidpara.types import StoredDemo, UInt8

FAR = 0.01
"""Metres between the recorded end effector and the rendered one from which it is worth a word."""
Images = Mapping[str, UInt8[np.ndarray, "t h w 3"]]


class Item(NamedTuple):
    """One demo for one worker."""

    name: str
    part: Path
    cameras: tuple[str, ...]
    size: tuple[int, int]
    """Rows and columns."""
    render: Literal["as_recorded", "fast", "faithful"]
    read: Callable[[str], StoredDemo]
    save: Callable[[Path, StoredDemo, Images], None]


class StoredScene:
    """A demo's model, put into its states and seen by its cameras; it is kept as long as the demos share it."""

    def __init__(self, scene: SceneConfig) -> None:
        from vidpara.simulation import demo_models  # imports the simulator: in the worker alone

        self._models, self._mujoco = demo_models, demo_models.mujoco
        self._key: tuple[Any, ...] = ()
        self._renderer: Any = None
        self._options = self._mujoco.MjvOption()
        self._options.geomgroup[0] = 0  # collision meshes

    def load(self, demo: StoredDemo, size: tuple[int, int], render: str) -> None:
        """Take the demo's model.

        Raises:
            UserError: it cannot be loaded, or there is no headless display.
        """
        key = (demo.model_xml, demo.states.shape[1], size, render)
        if key == self._key:
            return
        self.close()
        model = self._models.load_model(demo)
        quality, image = model.vis.quality, model.vis.global_
        fast = render == "fast" or (render == "as_recorded" and quality.offsamples == 0)
        quality.offsamples = 0 if fast else max(4, quality.offsamples)
        rows, columns = size
        image.offheight, image.offwidth = max(image.offheight, rows), max(image.offwidth, columns)
        self._model, self._data = model, self._mujoco.MjData(model)
        self._renderer = self._mujoco.Renderer(model, rows, columns)
        if fast:
            self._renderer.scene.flags[self._mujoco.mjtRndFlag.mjRND_REFLECTION] = 0
        self._key = key

    def place(self, demo: StoredDemo, row: int) -> None:
        """Put everything where the observations' `row` saw it, after its action.

        That is the next row's state, less one physics step: MuJoCo computes where bodies are before it moves them, and
        robosuite renders what was computed. For the last row no state is stored: the robot stands as its joints were
        measured, and the objects have moved on with the velocities of the state before.
        """
        state = demo.states[min(row + 1, len(demo.states) - 1)].copy()
        if row + 1 == len(demo.states):
            state[1 : 1 + self._model.nq] = self._models.integrate(self._model, state, CONTROL_STEP)
            measured = np.append(demo.joint_states[row], demo.gripper_states[row])
            state[1 + self._robot()] = measured
        self._data.qpos[:] = self._models.integrate(self._model, state, -self._model.opt.timestep)
        self._mujoco.mj_kinematics(self._model, self._data)
        self._mujoco.mj_camlight(self._model, self._data)

    def image(self, camera: str) -> UInt8[np.ndarray, "h w 3"]:
        """What a camera sees, bottom row first.

        Raises:
            UserError: the model has no such camera.
        """
        known = [self._model.camera(place).name for place in range(self._model.ncam)]
        name = WRIST if camera == "eye_in_hand" else camera
        if name not in known:
            raise UserError(
                f"no camera '{camera}' in the model; --camera takes {sorted(known)}{nearest(camera, known)}"
            )
        self._renderer.update_scene(self._data, name, self._options)
        return self._renderer.render()[::-1]

    def end_effector(self) -> np.ndarray:
        """The grip site, metres."""
        return self._data.site(self._models.SITE).xpos.copy()

    def close(self) -> None:
        if self._renderer is not None:
            self._renderer.close()
        self._renderer, self._key = None, ()

    def _robot(self) -> np.ndarray:
        """Places in `qpos` of the arm's seven joints and the two fingers."""
        joints = [f"robot0_joint{number}" for number in range(1, 8)]
        joints += ["gripper0_finger_joint1", "gripper0_finger_joint2"]
        return np.array([int(self._model.joint(name).qposadr[0]) for name in joints])


def render_demo(scene: StoredScene, item: Item, ask: workers.Ask) -> float:
    """Worker function: render one demo and save it; gives the largest distance (metres) between the recorded end
    effector and the rendered one.
    """
    demo = item.read(item.name)
    scene.load(demo, item.size, item.render)
    shape = (len(demo.states), *item.size, 3)
    images = {camera: np.empty(shape, np.uint8) for camera in item.cameras}
    apart = 0.0
    for row in range(len(demo.states)):
        scene.place(demo, row)
        apart = max(apart, float(np.linalg.norm(scene.end_effector() - demo.position[row])))
        for camera, frames in images.items():
            frames[row] = scene.image(camera)
    item.save(item.part, demo, images)
    return apart


def render(
    config: RenderConfig,
    names: Sequence[str],
    folder: Path,
    read: Callable[[str], StoredDemo],
    save: Callable[[Path, StoredDemo, Images], None],
) -> dict[str, Path]:
    """Render the demos `names`, each to a part in `folder` by `save`; parts that are there are kept."""
    parts = {name: folder / f"{name}.hdf5" for name in names}
    todo = [name for name in names if not parts[name].exists()]
    size = (config.size, config.size) if isinstance(config.size, int) else config.size
    shared = (config.camera, size, config.render, read, save)
    items = [Item(name, parts[name], *shared) for name in todo]
    done = workers.run(items, render_demo, SceneConfig(), workers.count(config.workers), make=StoredScene)
    with tqdm(total=len(names), initial=len(names) - len(todo), unit="demo") as bar:
        for place, apart in done:
            bar.update()
            if apart > FAR:
                tqdm.write(
                    f"{todo[place]}: states and recorded end effector are up to {apart * 1000:.0f} mm apart: row j of "
                    "the observations is not what the next row's state is; stages/check_data.py says more",
                    file=sys.stderr,
                )
    return parts
