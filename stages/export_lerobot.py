"""Write LIBERO HDF5 rollouts as a LeRobotDataset v3.0.

python stages/export_lerobot.py --rollouts data/grid.hdf5 --output data/grid_lerobot
"""

from vidpara.cli import main
from vidpara.config import ExportLeRobotConfig
from vidpara.data.rollouts import read_episodes
from vidpara.data.write_lerobot import write_dataset


def run(config: ExportLeRobotConfig, argv: list[str]) -> None:
    episodes = [
        episode
        for file in config.rollouts
        for episode in read_episodes(file, config.camera, config.size)[: config.demos or None]
    ]
    frames = write_dataset(episodes, config)
    print(f"{len(episodes)} episodes, {frames} frames -> {config.output}")


if __name__ == "__main__":
    main(ExportLeRobotConfig, run)
