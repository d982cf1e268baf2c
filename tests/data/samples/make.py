"""Makes the sample datasets here, with the lerobot package itself, from two demos at 64 x 64.

python tests/data/samples/make.py data/grid.hdf5 v3.0      (with lerobot 0.4 installed)
python tests/data/samples/make.py data/grid.hdf5 v2.1      (with lerobot 0.3; also makes v2.0 of it)
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
from lerobot.datasets.lerobot_dataset import CODEBASE_VERSION, LeRobotDataset  # pyright: ignore[reportMissingImports]
from PIL import Image

from vidpara.data.rollouts import read_episodes
from vidpara.data.write_lerobot import ACTION, STATE, demo_columns

HERE = Path(__file__).parent
SIZE, FPS = (64, 64), 20
DEMOS = ("demo_130", "demo_239")
"""The shortest of the first file of the study."""


def make(rollouts: Path, version: str) -> None:
    assert version == CODEBASE_VERSION, f"the installed lerobot writes {CODEBASE_VERSION}"
    folder = HERE / version
    shutil.rmtree(folder, ignore_errors=True)
    camera = {"camera.agentview.intrinsics": 9, "camera.agentview.world_from_camera": 16}
    features = {
        "observation.images.agentview": {
            "dtype": "video",
            "shape": (*SIZE, 3),
            "names": ["height", "width", "channels"],
        },
        "observation.state": {"dtype": "float32", "shape": (len(STATE),), "names": list(STATE)},
        "action": {"dtype": "float32", "shape": (len(ACTION),), "names": list(ACTION)},
        **{name: {"dtype": "float32", "shape": (n,), "names": None} for name, n in camera.items()},
    }
    dataset = LeRobotDataset.create("vidpara/sample", FPS, features, root=folder, robot_type="panda")
    episodes = {episode.name: episode for episode in read_episodes(rollouts, size=SIZE)}
    for name in DEMOS:
        columns, images = demo_columns(episodes[name]), episodes[name].images()
        for t, image in enumerate(images):
            rows = [column[t] for column in columns]
            frame = dict(zip(["observation.state", "action", *camera], rows, strict=True))
            frame["observation.images.agentview"] = image
            if version == "v3.0":
                dataset.add_frame({**frame, "task": episodes[name].task})
            else:
                dataset.add_frame(frame, episodes[name].task)
        dataset.save_episode()
    if version == "v3.0":
        dataset.finalize()
    shutil.rmtree(folder / "images", ignore_errors=True)


def older(folder: Path) -> None:
    """v2.0 from v2.1: one file of statistics in place of one line an episode."""
    target = folder.with_name("v2.0")
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(folder, target)
    (target / "meta/episodes_stats.jsonl").unlink()
    info = json.loads((target / "meta/info.json").read_text())
    (target / "meta/info.json").write_text(json.dumps({**info, "codebase_version": "v2.0"}, indent=4))
    (target / "meta/stats.json").write_text("{}")


def reference(rollouts: Path) -> None:
    """What the samples must read as: every eighth frame, and all positions."""
    episodes = [e for e in read_episodes(rollouts, size=SIZE) if e.name in DEMOS]
    positions = np.concatenate([e.position.numpy() for e in episodes]).tolist()
    (HERE / "positions.json").write_text(json.dumps(positions))
    strip = np.concatenate([image for e in episodes for image in e.images(range(0, len(e), 16))], axis=1)
    Image.fromarray(strip).save(HERE / "frames.png")


if __name__ == "__main__":
    rollouts, version = Path(sys.argv[1]), sys.argv[2]
    make(rollouts, version)
    reference(rollouts)
    if version == "v2.1":
        older(HERE / version)
