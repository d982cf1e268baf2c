"""Training clips a second: decord opened for every sample inside a DataLoader, over our loader of cached latents.

Sixteen H.264 videos of 96 frames of 256 x 256 (a keyframe every ten), and latents of the size that SVD's autoencoder
makes of them; both shuffled, both through a DataLoader without workers, seven frames three apart. Guard: both deliver
as many clips. The cold ratio is with the cached file dropped from the system's memory before each round.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from pathlib import Path

import av
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, default_collate

from benchmarks.harness import interleaved, report
from vidpara.config import ClipConfig, TrainerConfig
from vidpara.data.cached_frames import CachedFrames
from vidpara.data.clips import Clips
from vidpara.data.episode import Episode
from vidpara.data.rollouts import RolloutFrames
from vidpara.training.sampler import BatchSampler, Piece, Share, train_loader
from vidpara.types import Camera

VIDEOS, FRAMES, SIZE, BATCH, BATCHES = 16, 96, 256, 16, 4
CLIP = ClipConfig()
SPAN = (CLIP.frames - 1) * CLIP.stride
LATENTS = (VIDEOS * FRAMES, 4, SIZE // 8, SIZE // 8)


def write_video(file: Path, seed: int) -> None:
    """A soft pattern that drifts, so that it compresses as a camera's picture does."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:SIZE, 0:SIZE] / SIZE
    waves = rng.uniform(2, 12, (6, 3))
    with av.open(str(file), "w") as container:
        stream = container.add_stream("libx264", rate=20, options={"g": "10", "crf": "20"})
        stream.width = stream.height = SIZE
        stream.pix_fmt = "yuv420p"
        for t in range(FRAMES):
            value = sum(np.sin(a * rows + b * columns + c * t / 20) for a, b, c in waves)
            image = (127 + 20 * value)[..., None].repeat(3, -1).clip(0, 255).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


class Decoded(Dataset):
    """What people do: open the file for every sample."""

    def __init__(self, files: list[Path]) -> None:
        self.files = files

    def __len__(self) -> int:
        return len(self.files) * (FRAMES - SPAN)

    def __getitem__(self, index: int) -> torch.Tensor:
        import decord

        which, first = divmod(index, FRAMES - SPAN)
        reader = decord.VideoReader(str(self.files[which]), num_threads=1)
        frames = reader.get_batch(range(first, first + SPAN + 1, CLIP.stride)).asnumpy()
        return torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 127.5 - 1


def episode(name: str) -> Episode:
    moving = torch.linspace(0, 0.1, FRAMES)[:, None].repeat(1, 3)
    return Episode(
        source=Path("benchmark"), name=name, frames=RolloutFrames(Path("benchmark"), name, "agentview"),
        times=np.arange(FRAMES) / 20.0,         camera=Camera(torch.eye(3), torch.eye(4)),
        image_size=(SIZE, SIZE), stored_size=(SIZE, SIZE), position=moving,
        rotation=torch.eye(3).repeat(FRAMES, 1, 1), opening=torch.zeros(FRAMES), gripper=torch.zeros(FRAMES),
        pixel=torch.zeros(FRAMES, 2), in_view=torch.ones(FRAMES, dtype=torch.bool),
    )  # fmt: skip


def cached(file: Path) -> Clips:
    """Our clips, on a memory-mapped file of latents."""
    latents = np.memmap(file, np.float16, "r", shape=LATENTS)
    context = np.zeros((LATENTS[0], 1, 1024), np.float16)
    frames = CachedFrames(latents, context, {f"demo_{i}": i * FRAMES for i in range(VIDEOS)})
    return Clips([episode(f"demo_{i}") for i in range(VIDEOS)], [frames] * VIDEOS, CLIP)


def drop(file: Path) -> None:
    """Have the system forget the file's contents."""
    descriptor = os.open(file, os.O_RDONLY)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = [folder / f"{i}.mp4" for i in range(VIDEOS)]
        for seed, file in enumerate(files):
            write_video(file, seed)
        decoded, warm_file, cold_file = Decoded(files), folder / "warm.f16", folder / "cold.f16"
        for file in (warm_file, cold_file):
            np.random.default_rng(0).standard_normal(LATENTS, np.float32).astype(np.float16).tofile(file)
        warm, settings = cached(warm_file), TrainerConfig(steps=BATCHES, batch_size=BATCH)

        def theirs() -> int:
            loader = DataLoader(decoded, BATCH, shuffle=True, collate_fn=default_collate)
            return sum(len(batch) for batch, _ in zip(loader, range(BATCHES), strict=False))

        def ours(clips: Clips = warm) -> int:
            loader = train_loader(
                clips,
                BatchSampler([Share(settings.batch_size, (Piece(0, len(clips)),))], settings),
                pin=False,
            )
            return sum(len(batch.latents) for batch in loader)

        def cold() -> int:
            drop(cold_file)  # before it is mapped: mapped pages stay
            return ours(cached(cold_file))

        same = theirs() == ours() == BATCHES * BATCH
        slow, after_drop = interleaved(theirs, cold, now=time.perf_counter)  # the disk is waited for
        a, b = interleaved(theirs, ours)
        cold_ratio = statistics.median(x / y for x, y in zip(slow, after_drop, strict=True))
        report(
            "clip_loading",
            a,
            b,
            f"s for {BATCHES * BATCH} clips",
            same,
            30.0,
            cold_ratio=round(cold_ratio, 1),
        )
