"""LIBERO's HDF5 layout, written and read back with h5py alone."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest

from vidpara.data import write_rollouts
from vidpara.types import Demonstration, EpisodeStart


def demonstration(steps: int, seed: int) -> Demonstration:
    generator = np.random.default_rng(seed)
    return Demonstration(
        task={"env_name": "Libero_Tabletop_Manipulation", "bddl_file_content": "(define)"},
        start=EpisodeStart(seed, (("object", 0.1, -0.2),), (45.0, 10.0)),
        model_xml="<mujoco/>",
        actions=generator.normal(size=(steps, 7)),
        states=generator.normal(size=(steps, 32)),
        gripper_states=generator.normal(size=(steps, 2)),
        joint_states=generator.normal(size=(steps, 7)),
        ee_pos=generator.normal(size=(steps, 3)),
        ee_ori=generator.normal(size=(steps, 3)),
        ee_quat=generator.normal(size=(steps, 4)),
        site_pos=generator.normal(size=(steps, 3)),
        site_ori=generator.normal(size=(steps, 3, 3)),
        images={"agentview": generator.integers(256, size=(steps, 8, 8, 3), dtype=np.uint8)},
        cameras={"agentview": (np.eye(3), np.eye(4))},
    )


@pytest.fixture
def written(tmp_path):
    demos = [demonstration(4, 0), demonstration(6, 1)]
    parts = [tmp_path / f"{number}.hdf5" for number in range(2)]
    for part, demo in zip(parts, demos, strict=True):
        write_rollouts.write_part(part, demo)
    write_rollouts.assemble(tmp_path / "out.hdf5", parts, config="seed: 0\n", attempts=5)
    return tmp_path / "out.hdf5", demos


def test_every_array_comes_back_under_liberos_name(written):
    path, demos = written
    with h5py.File(path) as file:
        for number, demo in enumerate(demos):
            group = file[f"data/demo_{number}"]
            for name in ("actions", "states"):
                assert np.array_equal(group[name], getattr(demo, name))
            for name in ("gripper_states", "joint_states", "ee_pos", "ee_ori", "site_pos", "site_ori"):
                assert np.array_equal(group[f"obs/{name}"], getattr(demo, name))
            assert np.array_equal(group["obs/agentview_rgb"], demo.images["agentview"])
            assert np.array_equal(group["obs/ee_states"], np.hstack([demo.ee_pos, demo.ee_ori]))
            assert np.array_equal(
                group["robot_states"], np.hstack([demo.gripper_states, demo.ee_pos, demo.ee_quat])
            )
            assert np.array_equal(group["camera/agentview/world_from_camera"], np.eye(4))
            assert group["dones"][()].tolist() == [0] * (len(demo.actions) - 1) + [1]


def test_attributes_describe_the_file_and_each_demo(written):
    path, demos = written
    with h5py.File(path) as file:
        data = file["data"]
        assert (data.attrs["num_demos"], data.attrs["total"]) == (2, 10)
        assert (data.attrs["attempts"], data.attrs["failures"]) == (5, 3)
        assert data.attrs["bddl_file_content"] == "(define)"
        assert data["demo_1"].attrs["num_samples"] == 6
        assert np.array_equal(data["demo_1"].attrs["init_state"], demos[1].states[0])
        assert json.loads(data["demo_1"].attrs["start"])["objects"] == [["object", 0.1, -0.2]]
    assert write_rollouts.config_of(path) == "seed: 0\n"


def test_the_same_demos_give_the_same_bytes(written, tmp_path):
    _, demos = written
    part = tmp_path / "0.hdf5"
    before = part.read_bytes()
    write_rollouts.write_part(part, demos[0])
    assert part.read_bytes() == before


def test_nothing_unfinished_carries_the_final_name(tmp_path):
    broken = demonstration(4, 0)._replace(site_ori=object())
    with pytest.raises(TypeError):
        write_rollouts.write_part(tmp_path / "0.hdf5", broken)
    assert not (tmp_path / "0.hdf5").exists()
