"""Small LIBERO files: a straight path over a table that the camera sees from above, and noise or a drift for images."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

SIZE, FRAMES = 32, 24


def write(path: Path, demos: int = 3, frames: int = FRAMES, smooth: bool = False) -> Path:
    rng = np.random.default_rng(0)
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = np.diag([1.0, -1.0, -1.0]), [0, 0, 2.0]  # looks straight down from 2 m
    with h5py.File(path, "w") as file:
        for i in range(demos):
            demo = file.create_group(f"data/demo_{i}")
            along = np.linspace(-0.3, 0.3, frames)
            noise = rng.integers(0, 256, (frames, SIZE, SIZE, 3), dtype=np.uint8)
            demo["obs/agentview_rgb"] = drift(frames, i) if smooth else noise
            demo["obs/site_pos"] = np.stack([along, 0 * along, 1 + 0 * along], 1)
            demo["obs/site_ori"] = np.broadcast_to(np.eye(3), (frames, 3, 3))
            demo["obs/gripper_states"] = np.full((frames, 2), [0.02, -0.02])
            demo["actions"] = np.tile([0, 0, 0, 0, 0, 0, -1.0], (frames, 1))
            demo["actions"][frames // 2 :, 6] = 1
            demo["camera/agentview/intrinsics"] = np.array([[40.0, 0, 16], [0, 40.0, 16], [0, 0, 1]])
            demo["camera/agentview/world_from_camera"] = pose
    return path


def drift(frames: int, seed: int) -> np.ndarray:
    """A soft grey pattern that moves to the right and gets brighter downwards; no two frames are the same."""
    t, rows, columns = np.mgrid[0:frames, 0:SIZE, 0:SIZE]
    grey = 90 + 50 * np.sin((columns - 1.5 * t) / 5 + seed) + 2 * rows
    return grey[..., None].repeat(3, -1).astype(np.uint8)
