"""Where training data come from: every source becomes a list of `Episode`s, and all of them one dataset."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

from vidpara.cli import UserError
from vidpara.config import DataConfig
from vidpara.data import video_folder
from vidpara.data.episode import Episode, OnError, at_rate, readable
from vidpara.data.lerobot import download, is_lerobot, read_dataset
from vidpara.data.rollouts import SUFFIXES, files_in, read_episodes, read_folder
from vidpara.data.source_file import Source, is_hub_id, sources_of


def read_sources(config: DataConfig) -> list[Episode]:
    """Episodes of all sources, in order; those without labels are video only.

    Raises:
        UserError: a source is missing, damaged or of no known kind, or their images differ in size.
    """
    check_settings(config)
    reads = (partial(read_source, source, config, config.on_error) for source in sources_of(config))
    episodes = [episode for source in readable(reads, config.on_error) for episode in source]
    return together(episodes, config)


def together(episodes: list[Episode], config: DataConfig) -> list[Episode]:
    """All sources' episodes as one dataset: of the chosen tasks, at one size, and on one clock if it is given.

    Raises:
        UserError: there is none, two sources share a file, their images differ in size, or no episode has a task that
            was chosen.
    """
    if not episodes:
        raise UserError(f"no episode of {', '.join(map(str, config.rollouts))} can be read")
    _check_tasks(episodes, config.tasks)
    episodes = of_tasks(episodes, config.tasks)
    _check_shared(episodes)
    sizes = {episode.image_size: episode for episode in episodes}
    if len(sizes) > 1:
        found = ", ".join(f"{size} in {episode.source}: {episode.name}" for size, episode in sizes.items())
        raise UserError(f"the sources mix image sizes: {found}; resize all with --data.size ROWS COLUMNS")
    if config.fps is not None:
        return on_clock(episodes, config.fps)
    rates = {round(episode.rate): episode for episode in episodes if len(episode) > 1}
    if len(rates) > 1:
        found = ", ".join(f"{rate} in {episode.source}" for rate, episode in sorted(rates.items())[:4])
        print(
            f"the sources differ in frames a second: {found}; --data.fps brings them to one clock",
            file=sys.stderr,
        )
    return episodes


def _check_shared(episodes: list[Episode]) -> None:
    """
    Raises:
        UserError: a file belongs to two sources, as a link in the one leads into the other.
    """
    owners: dict[Path, Path] = {}
    for file, source in dict.fromkeys((episode.origin.file, episode.source) for episode in episodes):
        if (owner := owners.setdefault(file.resolve(), source)) != source:
            raise UserError(
                f"{file.resolve()} belongs to {owner} and, by a link, to {source}: its held-out episodes would be "
                "trained on; leave it out of one of them"
            )


def check_settings(config: DataConfig) -> None:
    """
    Raises:
        UserError: a size or rate that is none.
    """
    if config.size is not None and min(config.size) < 1:
        raise UserError(f"--data.size {config.size[0]} {config.size[1]}: give rows and columns above 0")
    if config.fps is not None and not 0 < config.fps < float("inf"):
        raise UserError(f"--data.fps {config.fps}: give moments a second above 0")


def of_tasks(episodes: list[Episode], tasks: tuple[str, ...]) -> list[Episode]:
    """Episodes whose instruction contains one of `tasks`; all of them if none is given."""
    return [
        each for each in episodes if not tasks or any(task.lower() in each.task.lower() for task in tasks)
    ]


def on_clock(episodes: list[Episode], fps: float | None) -> list[Episode]:
    """The episodes at so many moments a second, or as they are."""
    return episodes if fps is None else [at_rate(episode, fps) for episode in episodes]


def _check_tasks(episodes: list[Episode], tasks: tuple[str, ...]) -> None:
    """
    Raises:
        UserError: one of them is in no instruction.
    """
    known = sorted({episode.task for episode in episodes})
    for task in tasks:
        if not any(task.lower() in each.lower() for each in known):
            raise UserError(
                f"data.tasks '{task}' is in no episode's instruction; there are: {'; '.join(known) or 'none'}"
            )


def cache_folder(config: DataConfig) -> Path:
    """Where latents are cached: `data.cache`, or beside the first source that is on this machine."""
    local = [path.parent for path in config.rollouts if not is_hub_id(path)]
    return config.cache or (local or [Path("data")])[0] / "latents"


def read_source(source: Source, config: DataConfig, on_error: OnError) -> list[Episode]:
    """One source's episodes, by what lies at its path.

    Raises:
        UserError: there is nothing of a known kind, or it cannot be read.
    """
    name, path = source.name, source.path
    if is_hub_id(path):
        return read_dataset(source, download(path, source.camera), config, on_error)
    if path.suffix in SUFFIXES:
        return read_episodes(path, source.camera, config.size, on_error, name)
    if path.is_dir() and files_in(path):
        return read_folder(path, source.camera, config.size, on_error, name)
    if is_lerobot(path):
        return read_dataset(source, path, config, on_error)
    if path.is_dir() and (inner := next(path.rglob("meta/episodes*"), None)):
        whole = (inner.parent / "info.json").is_file()
        raise UserError(
            f"--data.rollouts {name} holds {inner}, so {inner.parents[1]} is a LeRobotDataset"
            f"{'' if whole else ' whose meta/info.json is missing'}; name that folder, and copy what is missing"
        )
    if path.is_dir() and video_folder.videos_in(path):
        return video_folder.read_videos(
            path, config.size, config.decoder, cache_folder(config), on_error, name
        )
    found = (
        f"does not exist{'' if name == path else f': {path}'}"
        if not path.exists()
        else "is a folder without them"
        if path.is_dir()
        else "is another file"
    )
    raise UserError(
        f"--data.rollouts {name} {found}; it takes LIBERO HDF5 files (.hdf5) and folders of them, LeRobotDataset "
        f"folders (with meta/info.json; or hf://OWNER/NAME) and folders of videos ({', '.join(video_folder.SUFFIXES)})"
    )
