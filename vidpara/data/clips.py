"""Episodes and cached latents -> training clips."""

from __future__ import annotations

import bisect
import copy
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset, Subset

from vidpara.cli import UserError
from vidpara.config import ClipConfig
from vidpara.data.cached_frames import CachedFrames
from vidpara.data.episode import Episode
from vidpara.data.transforms import random_shift
from vidpara.types import Actions, Batch, RobotState


class Span(NamedTuple):
    """Clips `first` to `end`, all of one source."""

    source: Path
    first: int
    end: int


class Clips(Dataset):
    """Every moment of every episode, or every one until its last release, is the present of one clip.

    A clip that runs past the end repeats the last moment, without action labels there. The labels of the last
    `unlabelled` episodes are not used; the clips of these, and of episodes that have none, come last. Items are
    unbatched `Batch`es; `default_collate` stacks them. `shift` moves each clip's image by up to that many latent
    cells, drawn from torch's random state.
    """

    def __init__(
        self,
        episodes: Sequence[Episode],
        frames: Sequence[CachedFrames],
        clip: ClipConfig,
        shift: int = 0,
        until: Literal["end", "release"] = "end",
        unlabelled: int = 0,
    ) -> None:
        for episode in episodes:
            long_enough(episode, clip)
        used = [e.labelled and i < len(episodes) - unlabelled for i, e in enumerate(episodes)]
        order = sorted(range(len(episodes)), key=lambda i: not used[i])
        self.episodes, self.frames = [episodes[i] for i in order], [frames[i] for i in order]
        self.clip, self.shift, self.shown = clip, shift, clip.frames
        presents = [len(episode) if until == "end" else episode.release for episode in self.episodes]
        self.ends = list(accumulate(presents))
        self.labelled = sum(presents[: sum(used)])
        """How many clips, the first ones, have action labels."""

    def __len__(self) -> int:
        return self.ends[-1]

    def spans(self, end: int) -> list[Span]:
        """The first `end` clips (those of whole episodes) in pieces of one source each."""
        found: list[Span] = []
        for episode, start, stop in zip(self.episodes, [0, *self.ends], self.ends, strict=False):
            if found and found[-1].source == episode.source:
                start = found.pop().first
            found.append(Span(episode.source, start, stop))
            if stop == end:
                break
        return found

    def __getitem__(self, index: int) -> Batch:
        which = bisect.bisect_right(self.ends, index)
        episode, frames = self.episodes[which], self.frames[which]
        now = index - (self.ends[which - 1] if which else 0)
        wanted = now + torch.arange(self.clip.frames) * self.clip.stride
        moments = wanted.clamp_max(len(episode) - 1)
        first, future = frames.first[episode.name], moments[1:]
        valid = episode.in_view[future] & (wanted == moments)[1:] & (index < self.labelled)
        item = Batch(
            latents=torch.from_numpy(frames.latents[first + moments[: self.shown].numpy()]).float(),
            context=torch.from_numpy(np.array(frames.context[first + now])).float(),
            camera=episode.camera,
            state=RobotState(episode.position[now], episode.opening[now]),
            actions=Actions(
                pixel=episode.pixel[future],
                height=episode.position[future, 2],
                position=episode.position[future],
                rotation=episode.rotation[future],
                gripper=episode.gripper[future],
                valid=valid,
                has_rotation=torch.full_like(valid, episode.has_rotation),
            ),
        )
        factor = episode.image_size[0] // item.latents.shape[-2]
        return random_shift(item, self.shift, factor) if self.shift else item


def first_frames(clips: Dataset, count: int) -> Dataset:
    """The same clips (or a subset of them) with the latents of their first `count` frames alone; all labels stay."""
    if isinstance(clips, Subset):
        return Subset(first_frames(clips.dataset, count), clips.indices)
    short = copy.copy(clips)
    short.shown = count
    return short


def long_enough(episode: Episode, clip: ClipConfig) -> Episode:
    """The episode itself, if it holds a clip.

    Raises:
        UserError: it is shorter.
    """
    span = (clip.frames - 1) * clip.stride + 1
    if len(episode) < span:
        raise UserError(
            f"{episode.source}: {episode.name} has {len(episode)} frames, a clip of {clip.frames} with stride "
            f"{clip.stride} spans {span}; set --data.clip.frames or --data.clip.stride lower, or leave it out with "
            "--data.on_error skip"
        )
    return episode
