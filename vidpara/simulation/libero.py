"""LIBERO (robosuite, MuJoCo) behind the `Simulator` protocol: the only file that imports any of them."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vidpara.cli import MissingError, UserError
from vidpara.config import SceneConfig
from vidpara.simulation import scene
from vidpara.simulation.stored_fields import RobotRecord, TaskDescription
from vidpara.simulation.world import Goal, World
from vidpara.types import (
    Camera,
    EpisodeStart,
    Float,
    Observation,
    Progress,
    Proprioception,
    RobotState,
    UInt8,
)

APT = "apt-get install --no-install-recommends libegl1 libgl1 libglib2.0-0"
os.environ.setdefault("MUJOCO_GL", "egl")
# Otherwise robosuite takes the display's number from CUDA_VISIBLE_DEVICES, and fails where that is empty. The two count
# differently, but it refuses a display whose number is none of those, so it does not see them while it is imported.
os.environ.setdefault("MUJOCO_EGL_DEVICE_ID", "0")
_visible = os.environ.pop("CUDA_VISIBLE_DEVICES", None)
logging.getLogger("robosuite_logs").setLevel(logging.ERROR)
try:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        import mujoco
        import robosuite
        from libero.libero import benchmark, get_libero_path
        from libero.libero.envs.bddl_utils import robosuite_parse_problem
        from libero.libero.envs.env_wrapper import ControlEnv
        from robosuite.utils import camera_utils, transform_utils
        from robosuite.utils.errors import RandomizationError
except ModuleNotFoundError as missing:
    raise MissingError(
        f"the simulator needs the package '{missing.name}'; install the extra: pip install -e '.[sim]'"
    ) from missing
except (ImportError, AttributeError) as missing:
    raise MissingError(f"the simulator cannot load a system library ({missing}); install: {APT}") from missing
finally:
    if _visible is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = _visible

NO_OP = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0])
LIFTED = 0.03
"""Rise of the goal's object (metres) from which it counts as lifted."""
DRAWS = 100
"""How often objects are placed anew where they do not fit."""
CEILING = 1.9
"""A height (metres) above everything."""


class LiberoSimulator:
    """One LIBERO task as a robot cell; the same `EpisodeStart` gives the same first state, whatever ran before."""

    def __init__(self, config: SceneConfig) -> None:
        self.config = config
        with contextlib.redirect_stdout(io.StringIO()):  # LIBERO prints the order of its tasks
            suites = benchmark.get_benchmark_dict()
            if config.suite not in suites:
                raise UserError(
                    f"--scene.suite {config.suite} is unknown; one of {', '.join(sorted(suites))}"
                )
            suite = suites[config.suite]()
        if not 0 <= config.task < suite.n_tasks:
            raise UserError(f"--scene.task {config.task} is not in 0..{suite.n_tasks - 1} of {config.suite}")
        task = suite.get_task(config.task)
        path = Path(get_libero_path("bddl_files")) / task.problem_folder / task.bddl_file
        problem = robosuite_parse_problem(str(path))
        self.goals = [Goal(state[0], state[1], "".join(state[2:])) for state in problem["goal_state"]]
        self._carried = next((goal for goal in self.goals if goal.predicate in ("on", "in")), None)
        bddl, name = path.read_text(), path.name
        self.init_states = suite.get_task_init_states(config.task) if config.layout == "original" else None
        self._parts: dict[str, str] = {}
        if config.layout == "clean":
            bddl, self._parts = scene.clean_task(problem, config)
            name = f"{path.stem}_clean.bddl"
        size = config.image_size
        self._environment = environment(
            bddl, camera_names=[config.camera], camera_heights=size, camera_widths=size
        )
        self._task = self._environment.env
        self.description = TaskDescription(
            f"libero/libero/bddl_files/{task.problem_folder}/{name}",
            bddl,
            " ".join(problem["language_instruction"]),
            type(self._task).__name__,
            self._environment.problem_name,
            self._environment.domain_name,
        )
        self._sim = self._environment.sim
        self.world = World(self._task)
        self._robot = self._environment.robots[0]
        if config.camera not in self._sim.model.camera_names:
            raise UserError(
                f"--scene.camera {config.camera} is unknown; one of {', '.join(self._sim.model.camera_names)}"
            )
        self._camera = self._sim.model.camera_name2id(config.camera)
        model = self._sim.model
        self._camera_pose = model.cam_pos[self._camera].copy(), model.cam_quat[self._camera].copy()
        self._default_view = camera_utils.get_camera_extrinsic_matrix(self._sim, config.camera)
        self.surface = float(self._task.workspace_offset[2])
        """Height (metres, world) of the table top or floor that the objects stand on."""
        scene.check_views(config, self._default_view, self.camera_matrices()[0], self.surface)
        self._start_height = 0.0
        if config.render == "fast":
            self._render_fast()

    # ------------------------------------------------------------------------------------------ Simulator protocol
    def reset(self, start: EpisodeStart) -> Proprioception:
        """Bring everything that the next steps depend on to the state that `start` names, then settle."""
        self._environment.seed(start.seed)  # numpy's global generator, from which robosuite draws poses
        reset(self._environment)
        self._robot.gripper.current_action = np.zeros(2)  # hidden state that a soft reset leaves as it was
        if self.init_states is not None:
            self._sim.set_state_from_flattened(self.init_states[start.seed % len(self.init_states)])
        for name, x, y in start.objects:
            joint = self._task.objects_dict[self._parts[name]].joints[-1]
            pose = np.array(self._sim.data.get_joint_qpos(joint))
            pose[:2] = x, y
            self._sim.data.set_joint_qpos(joint, pose)
        self._look_from(start.view)
        self._sim.data.qacc_warmstart[:] = 0
        self._sim.forward()
        for _ in range(scene.SETTLE_STEPS):
            self._environment.step(NO_OP)
        self._start_height = self._height()
        return self.proprioception()

    def observe(self) -> Observation:
        """The upright camera image with its camera, and the robot's state."""
        size = self.config.image_size
        image = self.render(self.config.camera, size)[::-1]
        now = self.proprioception()
        state = RobotState(*(torch.tensor(each, dtype=torch.float32) for each in (now.position, now.opening)))
        matrices = (torch.tensor(each, dtype=torch.float32) for each in self.camera_matrices())
        return Observation(torch.from_numpy(image.copy()), Camera(*matrices), state)

    def step(self, command: Float[np.ndarray, "7"]) -> tuple[Proprioception, Progress]:
        self._environment.step(command)
        lifted, goal, away = self._height() - self._start_height > LIFTED, self._carried, 0.0
        if goal:
            apart = self.world.position(goal.object) - self.world.target_position(goal.target)
            away = float(np.linalg.norm(apart[:2]))
        return self.proprioception(), Progress(lifted, self.succeeded(), away)

    def close(self) -> None:
        self._environment.close()

    # ----------------------------------------------------------------------------------------------- measurements
    def proprioception(self) -> Proprioception:
        site = self._robot.eef_site_id
        fingers = self._sim.data.qpos[self._robot._ref_gripper_joint_pos_indexes]
        return Proprioception(
            self._sim.data.site_xpos[site].copy(),
            self._sim.data.site_xmat[site].reshape(3, 3).copy(),
            float(np.abs(fingers).sum()),
        )

    def camera_matrices(self) -> tuple[Float[np.ndarray, "3 3"], Float[np.ndarray, "4 4"]]:
        """(intrinsics for `image_size`, world_from_camera) of the observed camera."""
        name, size = self.config.camera, self.config.image_size
        return (
            camera_utils.get_camera_intrinsic_matrix(self._sim, name, size, size),
            camera_utils.get_camera_extrinsic_matrix(self._sim, name),
        )

    def render(self, camera: str, size: int) -> UInt8[np.ndarray, "h w 3"]:
        """The buffer as OpenGL has it, bottom row first."""
        return self._sim.render(camera_name=camera, width=size, height=size)

    def record(self) -> RobotRecord:
        data, robot = self._sim.data, self._robot
        quat = transform_utils.convert_quat(data.get_body_xquat(robot.robot_model.eef_name), to="xyzw")
        now = self.proprioception()
        return RobotRecord(
            np.array(data.qpos[robot._ref_gripper_joint_pos_indexes]),
            np.array(data.qpos[robot._ref_joint_pos_indexes]),
            now.position,
            transform_utils.quat2axisangle(quat.copy()),
            quat,
            now.position,
            now.rotation,
        )

    def succeeded(self) -> bool:
        """Whether the goal holds now."""
        return bool(self._environment.check_success())

    def state(self) -> Float[np.ndarray, "n"]:
        """MuJoCo's flattened state: time, qpos, qvel."""
        return self._environment.get_sim_state()

    def controller(self) -> dict[str, Any]:
        """robosuite's settings of OSC_POSE, as they go into LIBERO's files."""
        return robosuite.load_controller_config(default_controller="OSC_POSE")

    def model_xml(self) -> str:
        return self._sim.model.get_xml()

    def surface_under(self, x: float, y: float, ignored: str) -> float:
        """Height (metres) of whatever lies under (x, y), the object `ignored` and the robot apart."""
        model, data = self._sim.model._model, self._sim.data._data
        collision, geom = np.array([1, 0, 0, 0, 0, 0], np.uint8), np.zeros(1, np.int32)
        height, body = CEILING, "robot"
        while body.startswith(("robot", "gripper", "mount")):
            start, down = np.array([x, y, height - 1e-3]), np.array([0.0, 0.0, -1.0])
            hit = mujoco.mj_ray(model, data, start, down, collision, 1, self._task.obj_body_id[ignored], geom)
            height = float(start[2] - hit)
            body = self._sim.model.body_id2name(int(self._sim.model.geom_bodyid[geom[0]]))
        return height

    # ---------------------------------------------------------------------------------------------------- details
    def _height(self) -> float:
        """Of what the task has to be carried somewhere; 0 where nothing has, but something opened or turned on."""
        return float(self.world.position(self._carried.object)[2]) if self._carried else 0.0

    def _look_from(self, view: tuple[float, float]) -> None:
        place, turn = self._camera_pose
        if view[1] != 0:
            pose = scene.orbit(self._default_view, self.surface, view)
            place, world_from_mujoco = pose[:3, 3], pose[:3, :3] @ np.diag([1.0, -1.0, -1.0])
            turn = transform_utils.convert_quat(transform_utils.mat2quat(world_from_mujoco), to="wxyz")
        self._sim.model.cam_pos[self._camera] = place
        self._sim.model.cam_quat[self._camera] = turn

    def _render_fast(self) -> None:
        """No antialiasing and no reflections: a third of the time on a processor. Survives soft resets only."""
        context = self._sim._render_context_offscreen
        self._sim.model._model.vis.quality.offsamples = 0
        context.con.free()
        context._set_mujoco_context_and_buffers()
        context.scn.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = 0


def reset(environment: Any) -> None:
    """LIBERO's reset, which tries for ever and swallows every error: here only where objects cannot be placed.

    Raises:
        UserError: they do not fit, however often they are drawn.
    """
    for _ in range(DRAWS):
        with contextlib.suppress(RandomizationError):
            environment.env.reset()
            return
    raise UserError(
        f"the task's objects do not fit into their regions in {DRAWS} draws; choose another --scene.task"
    )


def environment(bddl: str, **settings: Any) -> Any:
    """LIBERO's environment of a BDDL text; `settings` are its own.

    Raises:
        UserError: it cannot open a headless display.
    """
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        path = Path(folder) / "task.bddl"
        path.write_text(bddl)
        try:
            return ControlEnv(
                bddl_file_name=str(path),
                **settings,
                use_camera_obs=False,
                hard_reset=False,
                horizon=1_000_000,
                ignore_done=True,
            )
        except (ImportError, AttributeError) as error:
            if "egl" not in str(error).lower() and "osmesa" not in str(error).lower():
                raise
            raise UserError(
                f"the simulator cannot open a headless display ({error}); install: {APT}"
            ) from error
