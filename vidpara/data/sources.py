"""Where training data come from: every source becomes a list of `Episode`s."""

from __future__ import annotations

from vidpara.config import DataConfig
from vidpara.data.rollouts import Episode, read_episodes


def read_sources(config: DataConfig) -> list[Episode]:
    """Episodes of all rollout files, in order."""
    return [
        episode for path in config.rollouts for episode in read_episodes(path, config.camera, config.size)
    ]
