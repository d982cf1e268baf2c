"""A source of data with settings of its own: a path in `data.rollouts`, or a YAML file there that describes one.

path: hf://OWNER/NAME
camera: exterior_1_left
cameras: cameras.yaml
lerobot: {position: observation.state.cartesian_position}
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from vidpara.cli import UserError, load
from vidpara.config import DataConfig, LeRobotConfig

YAML = (".yaml", ".yml")
HUB = "hf:"
FEATURE = "observation.images."
"""What lerobot puts before a camera's name."""


@dataclass(frozen=True)
class SourceFile:
    """What a source's YAML file may say; what it leaves out has the default, whatever `data` says of other sources."""

    path: Path = Path()
    """A LIBERO HDF5 file, a LeRobotDataset's folder (or `hf://OWNER/NAME`), a folder of videos."""
    camera: str = "agentview"
    cameras: Path | None = None
    lerobot: LeRobotConfig = field(default_factory=LeRobotConfig)


class Source(NamedTuple):
    """One source, and how it is to be read."""

    name: Path
    """As `data.rollouts` names it."""
    path: Path
    """Where the data are; the same, or what its YAML file says."""
    camera: str
    cameras: Path | None
    lerobot: LeRobotConfig

    def setting(self, name: str) -> str:
        """What to change for one of the settings that this source is read with: a flag, or a key of its YAML file."""
        if self.name.suffix not in YAML:
            return f"--data.{name}"
        return f"'{name.replace('.', ': ')}' in {self.name}"


def sources_of(config: DataConfig) -> list[Source]:
    """What `data.rollouts` names, in order.

    Raises:
        UserError: the cameras' names are not as many as the sources, a YAML file does not describe a source, or the
            same data are named twice.
    """
    cameras = _cameras(config)
    found = [_source(name, camera, config) for name, camera in zip(config.rollouts, cameras, strict=True)]
    places = [source.path if is_hub_id(source.path) else source.path.resolve() for source in found]
    for (one, place), (other, inner) in itertools.permutations(zip(found, places, strict=True), 2):
        if inner.is_relative_to(place):
            raise UserError(
                f"data.rollouts names the same data twice, {one.name} and {other.name}: held-out episodes would be "
                "trained on; name them once, with a larger one of --data.weights"
            )
    for source in found:
        if source.cameras and not source.cameras.is_file():
            raise UserError(
                f"{source.cameras}, which is to describe the cameras of {source.name}, does not exist"
            )
    return found


def is_hub_id(path: Path) -> bool:
    """Whether a path is `hf://OWNER/NAME`, whose double slash it has lost."""
    return path.parts[:1] == (HUB,) and len(path.parts) == 3


def _source(name: Path, camera: str, config: DataConfig) -> Source:
    if name.suffix not in YAML:
        return Source(name, name, camera.removeprefix(FEATURE), config.cameras, config.lerobot)
    said = load(SourceFile, [str(name)])
    if said.path == Path() or said.path.suffix in YAML:
        raise UserError(
            f"{name} describes a source of data and must say its path: 'path: FOLDER, FILE or hf://ID'"
        )
    return Source(name, said.path, said.camera.removeprefix(FEATURE), said.cameras, said.lerobot)


def _cameras(config: DataConfig) -> tuple[str, ...]:
    """One name for all sources, or one for each."""
    if isinstance(config.camera, str):
        return (config.camera,) * len(config.rollouts)
    if len(config.camera) != len(config.rollouts):
        raise UserError(
            f"data.camera names {len(config.camera)} cameras ({', '.join(config.camera)}) for {len(config.rollouts)} "
            "data.rollouts; give one for all, or one for each in their order"
        )
    return config.camera
