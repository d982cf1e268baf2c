"""The real simulator. One cell is built for the whole module; each test resets it."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from types import ModuleType

import numpy as np
import pytest
import torch

from vidpara.cli import UserError
from vidpara.config import ExpertConfig, SceneConfig
from vidpara.geometry.camera import project
from vidpara.simulation import scene
from vidpara.simulation.expert import commands
from vidpara.simulation.mistakes import mistake
from vidpara.simulation.record import DROPPED, STILL, record
from vidpara.types import EpisodeStart, Progress

CELL = SceneConfig(image_size=128)
STARTS = scene.starts(CELL, 3, seed=5)
CLOSE = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0])


@pytest.fixture(scope="module")
def cell() -> Iterator:
    pytest.importorskip("libero")
    from vidpara.simulation.libero import LiberoSimulator

    simulator = LiberoSimulator(CELL)
    yield simulator
    simulator.close()


def place(bowl: tuple[float, float], view: tuple[float, float] = (0.0, 0.0)) -> EpisodeStart:
    return EpisodeStart(3, (("object", *bowl), ("target", 0.05, 0.0)), view)


def rollout(cell, start: EpisodeStart) -> tuple[np.ndarray, np.ndarray]:
    """States and images of some random motion."""
    cell.reset(start)
    generator = np.random.default_rng(0)
    states, images = [cell.state()], [cell.observe().image.numpy()]
    for _ in range(8):
        cell.step(generator.uniform(-1, 1, 7))
        states.append(cell.state())
    images.append(cell.observe().image.numpy())
    return np.stack(states), np.stack(images)


def segmented(cell, camera: str, size: int) -> list[list[str]]:
    """Name of the body that each pixel of the upright image shows."""
    sim = cell._sim
    kind, geom = np.moveaxis(
        sim.render(camera_name=camera, width=size, height=size, segmentation=True)[::-1], 2, 0
    )
    bodies = [sim.model.body_id2name(int(body)) for body in sim.model.geom_bodyid]
    shown = kind == 5  # mujoco.mjtObj.mjOBJ_GEOM
    return [
        [bodies[g] if known else "" for g, known in zip(*row, strict=True)]
        for row in zip(geom, shown, strict=True)
    ]


@pytest.mark.sim
def test_a_start_gives_the_same_bits_whatever_ran_before(cell):
    states, images = rollout(cell, STARTS[0])
    cell.reset(STARTS[1]._replace(view=(90.0, 20.0)))
    for _ in range(30):
        cell.step(CLOSE)
    again_states, again_images = rollout(cell, STARTS[0])
    assert np.array_equal(states, again_states)
    assert np.array_equal(images, again_images)


@pytest.mark.sim
@pytest.mark.parametrize("view", [(0.0, 0.0), (200.0, 20.0)])
def test_the_end_effector_projects_onto_the_gripper(cell, view):
    cell.reset(place((-0.2, -0.2), view))
    for _ in range(25):  # with closed fingers no background shows between them
        position = cell.step(CLOSE)[0].position
    size = 512
    pixel = (
        project(torch.tensor(position, dtype=torch.float32), cell.observe().camera) * size / CELL.image_size
    )
    u, v = (int(value) for value in pixel)
    assert "finger" in segmented(cell, "agentview", size)[v][u]


@pytest.mark.sim
def test_images_are_upright_and_not_mirrored(cell):
    positions = [(-0.28, -0.2), (0.0, 0.25)]
    images = []
    for bowl in positions:
        cell.reset(place(bowl))
        images.append(cell.observe().image.numpy().astype(int))
    moved = np.abs(images[0] - images[1]).sum(axis=2) > 60
    for left, bowl in zip((True, False), positions, strict=True):
        half = moved & ((np.arange(CELL.image_size) < 64) == left)
        v, u = np.nonzero(half)
        expected = project(torch.tensor([*bowl, 0.925]), cell.observe().camera)
        assert np.hypot(u.mean() + 0.5 - expected[0], v.mean() + 0.5 - expected[1]) < 3


@pytest.mark.sim
def test_recorded_actions_reach_the_recorded_states(cell):
    demo = record(cell, STARTS[1], ExpertConfig())
    assert demo is not None
    cell.reset(demo.start)
    for _ in range(DROPPED):
        cell.step(STILL)
    for row, (action, state) in enumerate(zip(demo.actions, demo.states, strict=True)):
        np.testing.assert_allclose(cell.state(), state, atol=1e-9)
        proprioception, progress = cell.step(action)
        np.testing.assert_allclose(proprioception.position, demo.site_pos[row], atol=1e-9)
    assert progress.success
    assert np.array_equal(cell.observe().image.numpy(), demo.images["agentview"][-1][::-1])


@pytest.mark.sim
def test_the_expert_lifts_and_places_without_turning_the_wrist_and_stays_in_view(cell):
    for start in STARTS:
        proprioception = cell.reset(start)
        assert not cell.succeeded()
        camera, lifted = cell.observe().camera, []
        for action in commands(cell, ExpertConfig()):
            before = proprioception.position
            proprioception, progress = cell.step(action)
            lifted.append(progress.lifted)
            u, v = project(torch.tensor(proprioception.position, dtype=torch.float32), camera)
            assert (action[3:6] == 0).all()
            assert 0 <= u < CELL.image_size and 0 <= v < CELL.image_size
            assert np.linalg.norm(proprioception.position - before) < 0.025
        assert progress.success
        assert not lifted[0] and any(lifted) and not lifted[-1]


@pytest.mark.sim
def test_a_demonstration_after_a_mistake_begins_with_the_bowl_beside_the_plate_or_an_empty_closed_hand(cell):
    """The first seed makes the one mistake, the second the other."""
    misplaced, missed = place((-0.1, -0.1))._replace(seed=0), place((-0.1, -0.1))._replace(seed=1)
    openings, bowls = [], []
    for start in (misplaced, missed):
        cell.reset(start)
        for action in mistake(cell, ExpertConfig(recoveries=1.0), start.seed).commands:
            cell.step(action)
        assert not cell.succeeded()
        openings.append(cell.proprioception().opening)
        bowls.append(cell.world.position(cell.goals[0].object)[:2])
    assert 0.03 < np.linalg.norm(bowls[0] - (0.05, 0.0)) < 0.10
    assert np.linalg.norm(bowls[1] - (-0.1, -0.1)) < 0.02
    assert openings[0] > 0.03 > 0.003 > openings[1]
    for start in (misplaced, missed):
        assert record(cell, start, ExpertConfig(recoveries=1.0, max_steps=160)) is not None
        assert cell.succeeded()
    assert not list(mistake(cell, ExpertConfig(), 0).commands)


@pytest.mark.sim
@pytest.mark.parametrize("kind, held", [("strayed", False), ("strayed_holding", True)])
def test_a_demonstration_of_a_hand_astray_begins_off_the_way_with_or_without_the_bowl(cell, kind, held):
    expert = ExpertConfig(recoveries=1.0, mistakes=(kind,), max_steps=160)
    usual = record(cell, STARTS[0], ExpertConfig(max_steps=160))
    astray = record(cell, STARTS[0], expert)
    assert usual is not None and astray is not None and cell.succeeded()
    away = np.linalg.norm(usual.site_pos[:, :2] - astray.site_pos[0, :2], axis=1)
    assert away.min() > 0.02
    assert (astray.actions[0, -1] > 0) == held
    assert (np.abs(astray.gripper_states[0]).sum() < 0.02) == held
    assert len(astray.actions) < len(usual.actions)


@pytest.mark.sim
def test_the_original_layout_starts_from_liberos_own_states():
    pytest.importorskip("libero")
    from vidpara.simulation.libero import LiberoSimulator

    simulator = LiberoSimulator(SceneConfig(layout="original"))
    for seed in (0, 57):
        simulator.reset(EpisodeStart(seed, (), (0.0, 0.0)))
        assert simulator.init_states is not None
        initial = simulator.init_states[seed % 50]
        settled = simulator.state()
        assert settled[10:12] == pytest.approx(
            initial[10:12], abs=5e-3
        )  # x, y of the first bowl after falling
        assert settled[12] < initial[12] - 0.02
    simulator.close()


@pytest.mark.sim
@pytest.mark.parametrize("task", [0, 7], ids=["open a drawer", "turn on the stove"])
def test_where_nothing_is_to_be_carried_nothing_is_lifted(task: int):
    pytest.importorskip("libero")
    from vidpara.simulation.libero import LiberoSimulator

    simulator = LiberoSimulator(SceneConfig(suite="libero_goal", task=task, layout="original", image_size=64))
    simulator.reset(EpisodeStart(0, (), (0.0, 0.0)))
    assert simulator.step(CLOSE)[1] == Progress(lifted=False, success=False, away=0.0)
    simulator.close()


@pytest.mark.sim
def test_an_error_while_resetting_is_not_tried_again(cell, monkeypatch):
    """LIBERO's own loop would, for ever; objects that do not fit are drawn anew, but not for ever."""
    from vidpara.simulation.libero import DRAWS, RandomizationError

    tried = []

    def fail(error: Exception) -> None:
        tried.append(error)
        raise error

    monkeypatch.setattr(cell._task, "reset", lambda: fail(ValueError("broken")))
    with pytest.raises(ValueError, match="broken"):
        cell.reset(STARTS[0])
    assert len(tried) == 1
    monkeypatch.setattr(cell._task, "reset", lambda: fail(RandomizationError("full")))
    with pytest.raises(UserError, match=f"do not fit into their regions in {DRAWS} draws"):
        cell.reset(STARTS[0])
    assert len(tried) == 1 + DRAWS


@pytest.mark.sim
@pytest.mark.parametrize("visible", ["1", "GPU-5f3a", "-1", ""])
def test_the_simulator_is_imported_whichever_gpus_are_visible(visible: str):
    """robosuite looks for the display's number among them; an experiment gives each job a GPU of its own."""
    pytest.importorskip("libero")
    code = "import os, vidpara.simulation.libero; print(repr(os.environ['CUDA_VISIBLE_DEVICES']))"
    found = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"CUDA_VISIBLE_DEVICES": visible},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert found.stdout.strip() == repr(visible), found.stderr


def reimport(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.delitem(sys.modules, "vidpara.simulation.libero", raising=False)
    return importlib.import_module("vidpara.simulation.libero")


def test_a_missing_package_is_named_in_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "mujoco", None)
    with pytest.raises(UserError, match=r"'mujoco'.*\[sim\]") as error:
        reimport(monkeypatch)
    assert "\n" not in str(error.value)


def test_a_missing_display_library_names_the_apt_line(monkeypatch):
    class NoDisplay(ModuleType):
        def __getattr__(self, name: str) -> object:
            raise AttributeError("'NoneType' object has no attribute 'eglQueryString'")

    package = ModuleType("libero")
    monkeypatch.setitem(sys.modules, "mujoco", ModuleType("mujoco"))
    monkeypatch.setitem(sys.modules, "robosuite", ModuleType("robosuite"))
    monkeypatch.setitem(sys.modules, "libero", package)
    monkeypatch.setitem(sys.modules, "libero.libero", NoDisplay("libero.libero"))
    with pytest.raises(UserError, match="apt-get install --no-install-recommends libegl1 libgl1"):
        reimport(monkeypatch)
