"""A LIBERO file of one real demonstration, and short ones of some of its rows."""

from __future__ import annotations

from pathlib import Path

import h5py
import pytest

from vidpara.config import ExpertConfig, SceneConfig
from vidpara.data import write_rollouts
from vidpara.simulation import scene
from vidpara.simulation.record import record

CELL = SceneConfig(image_size=128)


def record_one(folder: Path) -> Path:
    """One demonstration of the expert's, as `stages/collect_rollouts.py` writes it; skips without the simulator."""
    pytest.importorskip("libero")
    from vidpara.simulation.libero import LiberoSimulator

    simulator = LiberoSimulator(CELL)
    demo = record(simulator, scene.starts(CELL, 2, seed=5)[1], ExpertConfig())
    simulator.close()
    assert demo is not None
    write_rollouts.write_part(folder / "part.hdf5", demo)
    write_rollouts.assemble(folder / "whole.hdf5", [folder / "part.hdf5"], "", 1)
    return folder / "whole.hdf5"


def cut(source: Path, path: Path, *parts: slice) -> Path:
    """A file whose demos are these rows of the first one of `source`."""
    with h5py.File(source) as file, h5py.File(path, "w") as written:
        before, data = file["data/demo_0"], written.create_group("data")
        data.attrs.update(file["data"].attrs)
        for number, part in enumerate(parts):
            demo = data.create_group(f"demo_{number}")
            demo.attrs.update(before.attrs)

            def copy(name: str, item: h5py.Dataset | h5py.Group, demo=demo, part=part) -> None:
                if isinstance(item, h5py.Dataset):
                    demo[name] = item[()] if name.startswith("camera") else item[part]

            before.visititems(copy)
    return path
