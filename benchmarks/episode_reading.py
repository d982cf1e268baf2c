"""A whole episode, as latents are made of it: block after block, each opened and sought anew, over one way through.

An H.264 video of 300 frames of 256 x 256 with a keyframe every 250 (x264's default), in blocks of 16. Guard: identical
frames. Beside it the same with a keyframe every ten.
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.frame_loading import write_video
from benchmarks.harness import interleaved, report
from vidpara.data.frames import parts
from vidpara.data.video import VideoFrames, frame_times

BLOCK = 16


def frames_of(folder: Path, gop: int) -> VideoFrames:
    file = folder / f"{gop}.mp4"
    write_video(file, 0, gop)
    return VideoFrames(file, file.name, frame_times(file)[0])


def anew(frames: VideoFrames) -> np.ndarray:
    return np.concatenate([frames.read(part) for part in parts(range(len(frames.times)), BLOCK)])


def at_once(frames: VideoFrames) -> np.ndarray:
    return np.concatenate(list(frames.blocks(range(len(frames.times)), BLOCK)))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        rare, often = (frames_of(Path(folder), gop) for gop in (250, 10))
        same = all(np.array_equal(anew(frames), at_once(frames)) for frames in (rare, often))
        a, b = interleaved(lambda: anew(rare), lambda: at_once(rare))
        beside = interleaved(lambda: anew(often), lambda: at_once(often))
        every_ten = statistics.median(x / y for x, y in zip(*beside, strict=True))
        report(
            "episode_reading", a, b, "seconds of an episode", same, 3, frames=len(rare.times), block=BLOCK,
            ratio_with_a_keyframe_every_ten=round(every_ten, 2),
        )  # fmt: skip
