"""Write LIBERO HDF5 rollouts as a LeRobotDataset v3.0.

python stages/export_lerobot.py --rollouts data/grid.hdf5 --output data/grid_lerobot
"""

from vidpara.cli import UserError, main
from vidpara.config import ExportLeRobotConfig
from vidpara.data.rollouts import files_in, read_episodes
from vidpara.data.write_lerobot import write_dataset
from vidpara.exclusive import exclusive


def run(config: ExportLeRobotConfig, argv: list[str]) -> None:
    if config.demos < 0:
        raise UserError(f"--demos {config.demos}: give how many of each file, or 0 for all")
    episodes = [
        episode
        for path in config.rollouts
        for file in (files_in(path) if path.is_dir() else [path])
        for episode in read_episodes(file, config.camera, config.size)[: config.demos or None]
    ]
    taken = f"{config.output} is being written by another command; wait for it, or give another --output"
    with exclusive(config.output.with_name(f"{config.output.name}.lock"), taken):
        frames = write_dataset(episodes, config)
    print(f"{len(episodes)} episodes, {frames} frames -> {config.output}")


if __name__ == "__main__":
    main(ExportLeRobotConfig, run)
