"""Memory and time of a very large dataset's index: an epoch of a million clips, drawn as a training draws them.

Five thousand episodes of 200 moments with poses, in two sources; each source's episodes read the same frames, since
what is measured does not touch pixels: the latents are a file of holes. All else is what a training uses: `Episode`,
`Clips`, `BatchSampler`, and the items themselves of one batch in a hundred. A is the time that a batch's items take,
B that of its indices. Guard: over the epoch every clip comes once, and resident memory grows by less than a twentieth.
Beside it what an index costs, also where clips are drawn by their source's weight.
"""

from __future__ import annotations

import os
import statistics
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import default_collate

from benchmarks.clip_loading import CLIP
from benchmarks.harness import clock, interleaved, report
from vidpara.config import TrainerConfig
from vidpara.data.cached_frames import CachedFrames
from vidpara.data.clips import Clips
from vidpara.data.episode import Episode, Poses, labelled
from vidpara.data.rollouts import RolloutFrames
from vidpara.training.sampler import BatchSampler, Piece, Share
from vidpara.types import Camera

EPISODES, FRAMES, SIZE, BATCH, LOOKED_AT, ROUND = 5000, 200, 64, 32, 100, 20
CLIPS = EPISODES * FRAMES


def episodes() -> list[Episode]:
    along = torch.linspace(-0.3, 0.3, FRAMES)
    eye = torch.eye(3).repeat(FRAMES, 1, 1)
    camera = Camera(torch.tensor([[60.0, 0, 32], [0, 60.0, 32], [0, 0, 1]]), torch.eye(4))
    camera.world_from_camera[:3] = torch.tensor([[1.0, 0, 0, 0], [0, -1, 0, 0], [0, 0, -1, 2]])
    found = []
    for number in range(EPISODES):
        source, name = Path("ab"[number % 2]), f"demo_{number}"
        still = torch.zeros(FRAMES)
        poses = Poses(
            torch.stack([along, still + number / EPISODES / 5, still + 1], 1),
            eye.clone(),
            still,
            still.clone(),
        )
        frames, times = RolloutFrames(source, name, "agentview"), np.arange(FRAMES) / 20
        found.append(labelled(source, name, frames, times, camera, (SIZE, SIZE), None, poses))
    return sorted(found, key=lambda episode: episode.source)


def clips(file: Path, found: list[Episode]) -> Clips:
    file.touch()
    os.truncate(file, 2 * 4 * (SIZE // 8) ** 2 * CLIPS)
    latents = np.memmap(file, np.float16, "r", shape=(CLIPS, 4, SIZE // 8, SIZE // 8))
    context = np.memmap(file, np.float16, "r", shape=(CLIPS, 1, 4))
    first = {episode.name: number * FRAMES for number, episode in enumerate(found)}
    return Clips(found, [CachedFrames(latents, context, first)] * EPISODES, CLIP)


def resident() -> int:
    """Bytes of memory of this process's own; a mapped file's pages are the system's."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["RssAnon"].split()[0]) * 1024


if __name__ == "__main__":
    config = TrainerConfig(steps=CLIPS // BATCH, batch_size=BATCH)
    with tempfile.TemporaryDirectory() as folder:
        before = resident()
        dataset = clips(Path(folder) / "latents.f16", episodes())
        indexed = resident() - before
        spans = dataset.spans(CLIPS)
        plain = BatchSampler([Share(BATCH, (Piece(0, CLIPS),))], config)
        pieces = tuple(
            Piece(span.first, span.end, weight) for span, weight in zip(spans, (3.0, 1.0), strict=True)
        )
        mixed = BatchSampler([Share(BATCH, pieces)], config)

        seen, sizes, drawing = np.zeros(CLIPS, np.int32), [], 0.0
        for step in range(config.steps):
            began = clock()
            batch = plain.batch(step, 0)
            drawing += clock() - began
            seen[[draw.index for draw in batch]] += 1
            if step % LOOKED_AT == 0:
                default_collate([dataset[draw.index] for draw in batch])
                sizes.append(resident())
        start, end = sizes[1], sizes[-1]  # the first batch brings in what every batch needs
        guard = bool((seen == 1).all()) and end < 1.05 * start and max(sizes) < 1.05 * start

        draws = [plain.batch(step, 0) for step in range(ROUND)]
        a, b = interleaved(
            lambda: [default_collate([dataset[draw.index] for draw in batch]) for batch in draws],
            lambda: [plain.batch(step, 0) for step in range(ROUND)],
        )
        by_weight, _ = interleaved(lambda: [mixed.batch(step, 0) for step in range(ROUND)], lambda: None)
        report(
            "index_size", a, b, f"s for {ROUND * BATCH} clips", guard, 10.0, clips=CLIPS,
            microseconds_an_index=round(1e6 * drawing / CLIPS, 1),
            microseconds_by_weight=round(1e6 * statistics.median(by_weight) / (ROUND * BATCH), 1),
            bytes_a_clip=round(indexed / CLIPS), resident_mb=[round(start / 1e6), round(end / 1e6)],
        )  # fmt: skip
