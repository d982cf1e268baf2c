"""Configuration and episodes -> cached clips, and what a batch is made of."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import NamedTuple, cast

from torch import nn
from torch.utils.data import Dataset, Subset

from vidpara.cli import UserError
from vidpara.config import DataConfig, TrainPolicyConfig, TrainVideoConfig
from vidpara.data.cache_notes import digest_of
from vidpara.data.clips import Clips, first_frames, long_enough
from vidpara.data.episode import Episode, readable
from vidpara.data.seen import warn_of_seen
from vidpara.data.shards import cache_source
from vidpara.data.sources import cache_folder
from vidpara.data.split import split
from vidpara.data.team import ALONE, Team
from vidpara.models.autoencoder import Autoencoder
from vidpara.training.sampler import Piece, Share
from vidpara.types import Batch


class TrainingData(NamedTuple):
    """What a stage trains on: clips, clips to validate with, and what the whole batch of an update is made of."""

    training: Dataset
    validation: Dataset
    shares: list[Share]
    content: str
    """Digest of the episodes: of all that were found, and of those that are trained and validated on."""
    seen: list[Episode]
    """Those that are trained on."""

    def of_the_present(self) -> TrainingData:
        """Without the frames that a policy on an image backbone does not see."""
        return self._replace(
            training=first_frames(self.training, 1), validation=first_frames(self.validation, 1)
        )


def build_data(
    config: TrainVideoConfig | TrainPolicyConfig,
    episodes: list[Episode],
    autoencoder: Autoencoder,
    image_encoder: nn.Module,
    team: Team,
    first: Callable[[int], int],
    labelled: bool,
) -> TrainingData:
    """The clips, and batches whose `first(count)` clips of `count`, over all processes and micro-steps, are what the
    model expects first, `labelled` if need be; the others are of any kind.

    Raises:
        UserError: see `check_weights` and `build_clips`, or what `first` says.
    """
    count = config.trainer.batch_size * config.trainer.accumulate * team.num_processes
    expected = first(count)
    check_weights(config.data)
    one_alone = config.trainer.overfit_one_sample
    one_way = replace(config.data, shift=0) if one_alone else config.data  # shifted it would be many samples
    training, validation = build_clips(
        one_way, episodes, autoencoder, image_encoder, team, config.trainer.seed
    )
    shares = build_shares(config.data, training, expected, count - expected, labelled)
    held_out = cast(Clips, validation.dataset).episodes
    if isinstance(config, TrainPolicyConfig) and config.video_run and not team.process_index:
        warn_of_seen(config.video_run, held_out)
    content, seen = content_of([*episodes, *training.episodes, *held_out]), training.episodes
    if one_alone:
        one = Subset(training, [0])
        return TrainingData(
            one, one, [Share(share.samples, (Piece(0, 1),)) for share in shares], content, seen
        )
    return TrainingData(training, validation, shares, content, seen)


def build_clips(
    config: DataConfig,
    episodes: list[Episode],
    autoencoder: Autoencoder,
    image_encoder: nn.Module,
    team: Team = ALONE,
    seed: int = 0,
) -> tuple[Clips, Subset[Batch]]:
    """Training clips, those without labels last, and evenly spaced validation clips, their latents encoded once by all
    processes together and cached. `seed` is the training's.

    Raises:
        UserError: the settings do not fit the episodes, or one is shorter than a clip or its frames cannot be read
            (with `on_error: skip` these are left out).
    """
    episodes = list(readable((partial(long_enough, each, config.clip) for each in episodes), config.on_error))
    parts, cached = split(episodes, config, seed), {}
    models = [autoencoder, image_encoder]
    digest = digest_of(models)  # once: of large encoders it takes seconds
    for source in dict.fromkeys(episode.source for episode in episodes):  # whole sources may be left out
        of_source = [episode for episode in episodes if episode.source == source]
        cached[source] = cache_source(
            of_source, autoencoder.encode, image_encoder, models, cache_folder(config), team, config.on_error,
            config.store, digest,
        )  # fmt: skip
    seen = [episode for episode in episodes if episode.name in cached[episode.source]]
    training, others, held_out = parts if len(seen) == len(episodes) else split(seen, config, seed)
    unlabelled = [episode for episode in others if config.unlabelled or not episode.labelled]

    def clips(chosen: list[Episode], shift: int, without: int) -> Clips:
        frames = [cached[episode.source][episode.name] for episode in chosen]
        return Clips(chosen, frames, config.clip, shift, config.until, without)

    validation = clips(held_out, 0, 0)
    step = max(1, -(-len(validation) // config.validation_clips))
    return (
        clips([*training, *unlabelled], config.shift, len(unlabelled)),
        Subset(validation, range(0, len(validation), step)),
    )


def build_shares(
    config: DataConfig, clips: Clips, first: int, others: int, labelled: bool = True
) -> list[Share]:
    """What the whole batch of an update is made of: the `first` so many clips, which are `labelled` if need be, and so
    many `others` of any kind, by the sources' weights.
    """
    wanted = ((first, clips.labelled if labelled else len(clips)), (others, len(clips)))
    return [Share(samples, _pieces(config, clips, end)) for samples, end in wanted if samples]


def check_weights(config: DataConfig) -> None:
    """
    Raises:
        UserError: the weights are not one positive number a source.
    """
    if config.weights and (len(config.weights) != len(config.rollouts) or min(config.weights) <= 0):
        raise UserError(
            f"data.weights {config.weights} must be one positive number for each of the {len(config.rollouts)} "
            "data.rollouts"
        )


def content_of(episodes: Iterable[Episode]) -> str:
    """Text that changes with which episodes there are, their order, length, clock and labels; not with where or in
    which files they lie, nor with what processors differ in.
    """
    found = hashlib.sha256()
    for each in episodes:
        seconds = float(each.times[-1] - each.times[0])
        means = [*each.position.mean(0).tolist(), float(each.gripper.mean())]
        numbers = " ".join(f"{number + 0.0:.3f}" for number in (seconds, *means))
        found.update(f"{each.name} {len(each)} {each.image_size} {each.labelled} {numbers}\n".encode())
    return found.hexdigest()[:16]


def _pieces(config: DataConfig, clips: Clips, end: int) -> tuple[Piece, ...]:
    """The first `end` clips in one piece, or with weights by source: a source in several pieces has its weight once."""
    if not config.weights:
        return (Piece(0, end),)
    spans, weights = clips.spans(end), dict(zip(config.rollouts, config.weights, strict=True))
    sizes = {
        source: sum(each.end - each.first for each in spans if each.source == source) for source in weights
    }
    return tuple(
        Piece(first, last, weights[source] * (last - first) / sizes[source]) for source, first, last in spans
    )
