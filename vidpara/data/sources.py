"""Where training data come from: every source becomes a list of `Episode`s."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

from vidpara.cli import UserError
from vidpara.config import DataConfig
from vidpara.data.episode import Episode, at_rate, readable
from vidpara.data.lerobot import download, is_hub_id, is_lerobot, read_dataset
from vidpara.data.rollouts import read_episodes
from vidpara.data.video_folder import read_videos, videos_in

HDF5 = (".hdf5", ".h5")


def read_sources(config: DataConfig) -> list[Episode]:
    """Episodes of all sources, in order; those without labels are video only.

    Raises:
        UserError: a source is missing, damaged or of no known kind, or their images differ in size.
    """
    sources = zip(config.rollouts, cameras_of(config), strict=True)
    found = readable((partial(_read, path, camera, config) for path, camera in sources), config.on_error)
    episodes = [episode for source in found for episode in source]
    if not episodes:
        raise UserError(f"no episode of {', '.join(map(str, config.rollouts))} can be read")
    if config.tasks:
        episodes = _of_tasks(episodes, config.tasks)
    sizes = {episode.image_size: episode for episode in episodes}
    if len(sizes) > 1:
        found = ", ".join(f"{size} in {episode.source}: {episode.name}" for size, episode in sizes.items())
        raise UserError(f"the sources mix image sizes: {found}; resize all with --data.size ROWS COLUMNS")
    if config.fps:
        return [at_rate(episode, config.fps) for episode in episodes]
    rates = {round(episode.rate): episode for episode in episodes if len(episode) > 1}
    if len(rates) > 1:
        found = ", ".join(f"{rate} in {episode.source}" for rate, episode in sorted(rates.items())[:4])
        print(
            f"the sources differ in frames a second: {found}; --data.fps brings them to one clock",
            file=sys.stderr,
        )
    return episodes


def _of_tasks(episodes: list[Episode], tasks: tuple[str, ...]) -> list[Episode]:
    """Episodes whose instruction contains one of `tasks`.

    Raises:
        UserError: one of them is in no instruction.
    """
    known = sorted({episode.task for episode in episodes})
    for task in tasks:
        if not any(task.lower() in each.lower() for each in known):
            raise UserError(
                f"data.tasks '{task}' is in no episode's instruction; there are: {'; '.join(known) or 'none'}"
            )
    return [e for e in episodes if any(task.lower() in e.task.lower() for task in tasks)]


def cameras_of(config: DataConfig) -> tuple[str, ...]:
    """The camera of each source; folders of video have none and ignore theirs.

    Raises:
        UserError: the names are not as many as the sources, or a source has two.
    """
    if isinstance(config.camera, str):
        return (config.camera,) * len(config.rollouts)
    if len(config.camera) != len(config.rollouts):
        raise UserError(
            f"data.camera names {len(config.camera)} cameras ({', '.join(config.camera)}) for {len(config.rollouts)} "
            "data.rollouts; give one for all, or one for each in their order"
        )
    of: dict[Path, str] = {}
    for path, camera in zip(config.rollouts, config.camera, strict=True):
        if of.setdefault(path, camera) != camera:
            raise UserError(
                f"data.rollouts names {path} twice, with two cameras; give it once (--data.rollouts)"
            )
    return config.camera


def cache_folder(config: DataConfig) -> Path:
    """Where latents are cached: `data.cache`, or beside the first source that is on this machine."""
    local = [path.parent for path in config.rollouts if not is_hub_id(path)]
    return config.cache or (local or [Path("data")])[0] / "latents"


def _read(path: Path, camera: str, config: DataConfig) -> list[Episode]:
    if is_hub_id(path):
        return read_dataset(path, download(path), config, camera)
    if path.suffix in HDF5:
        return read_episodes(path, camera, config.size, config.on_error)
    if is_lerobot(path):
        return read_dataset(path, path, config, camera)
    if path.is_dir() and videos_in(path):
        return read_videos(path, config.size, config.decoder, cache_folder(config), config.on_error)
    found = (
        "does not exist"
        if not path.exists()
        else "is a folder without them"
        if path.is_dir()
        else "is another file"
    )
    raise UserError(
        f"--data.rollouts {path} {found}; it takes LIBERO HDF5 files (.hdf5), LeRobotDataset folders (with "
        "meta/info.json; or hf://OWNER/NAME) and folders of videos (.mp4, .webm, .avi, .mkv)"
    )
