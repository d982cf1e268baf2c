"""Frames of random clips: the whole video read and then indexed, over our reader, which seeks and decodes a clip alone.

Four H.264 videos of 300 frames of 256 x 256 (a keyframe every ten), seven frames three apart; the file is opened for
each clip on both sides, both on one thread. Guard: identical frames. Beside it the same with a keyframe every 250, and
how long decord (one thread) takes for what our reader does, where decord is installed.
"""

from __future__ import annotations

import importlib.util
import statistics
import tempfile
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from benchmarks.clip_loading import CLIP, SIZE, SPAN
from benchmarks.harness import interleaved, report
from vidpara.data.video import Decoder, read_frames

VIDEOS, FRAMES, FPS, CLIPS = 4, 300, 20, 8
AT = CLIP.stride * np.arange(CLIP.frames)


def write_video(file: Path, seed: int, gop: int) -> None:
    """A soft pattern that drifts under a little noise."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:SIZE, 0:SIZE] / SIZE
    waves = rng.uniform(2, 12, (6, 3))
    with av.open(str(file), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"g": str(gop), "crf": "20"})
        stream.width = stream.height = SIZE
        stream.pix_fmt = "yuv420p"
        for t in range(FRAMES):
            value = 127 + 20 * sum(np.sin(a * rows + b * columns + c * t / 20) for a, b, c in waves)
            image = (
                (value + rng.normal(0, 3, value.shape)).clip(0, 255).astype(np.uint8)[..., None].repeat(3, -1)
            )
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


def draw(files: list[Path]) -> list[tuple[Path, int]]:
    """Random clips: a file and the first frame."""
    rng = np.random.default_rng(0)
    return [(files[int(rng.integers(len(files)))], int(rng.integers(FRAMES - SPAN))) for _ in range(CLIPS)]


def whole(clips: list[tuple[Path, int]]) -> np.ndarray:
    """What people do: decode all, keep some."""
    found = []
    for file, first in clips:
        with av.open(str(file)) as container:
            container.streams.video[0].codec_context.thread_count = 1
            colors = VideoReformatter()
            frames = (
                colors.reformat(frame, format="rgb24", threads=1) for frame in container.decode(video=0)
            )
            video = np.stack([frame.to_ndarray() for frame in frames])
        found.append(video[first + AT])
    return np.stack(found)


def ours(clips: list[tuple[Path, int]], decoder: Decoder = "pyav") -> np.ndarray:
    return np.stack([read_frames(file, (first + AT) / FPS, 1e-3, decoder) for file, first in clips])


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        files = {gop: [Path(name) / f"{gop}_{i}.mp4" for i in range(VIDEOS)] for gop in (10, 250)}
        for gop, of_gop in files.items():
            for seed, file in enumerate(of_gop):
                write_video(file, seed, gop)
        clips, sparse = draw(files[10]), draw(files[250])
        same = all(np.array_equal(whole(c), ours(c)) for c in (clips, sparse))
        a, b = interleaved(lambda: whole(clips), lambda: ours(clips))
        long = interleaved(lambda: whole(sparse), lambda: ours(sparse))
        more = {"gop_250": round(statistics.median(x / y for x, y in zip(*long, strict=True)), 2)}
        if importlib.util.find_spec("decord"):
            theirs = interleaved(lambda: ours(clips, "decord"), lambda: ours(clips))
            more["decord"] = round(statistics.median(x / y for x, y in zip(*theirs, strict=True)), 2)
        report("frame_loading", a, b, f"s for {CLIPS} clips", same, 8.0, **more)
