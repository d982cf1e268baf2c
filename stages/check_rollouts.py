"""Draw the recorded end effector, the targets and the lifted points on the frames, and measure the round trip.

python stages/check_rollouts.py --data.rollouts data/grid.hdf5 --output runs/check
"""

from PIL import Image

from vidpara.cli import UserError, main
from vidpara.config import CheckConfig
from vidpara.data.clips import workspace
from vidpara.data.sources import read_sources
from vidpara.evaluation.video import write_mp4
from vidpara.heads.pixel import PixelHead
from vidpara.report import sanity

ROUNDING = 0.501
GEOMETRY = 1e-4


def run(config: CheckConfig, argv: list[str]) -> None:
    every = read_sources(config.data)
    episodes = [episode for episode in every if episode.labelled]
    head = PixelHead(32, config.data.clip.frames - 1, config.head, workspace(every))
    config.output.mkdir(parents=True, exist_ok=True)
    pictures = []
    for episode in episodes[: config.demos]:
        drawn = sanity.frames(episode, head, config.data.clip)
        write_mp4(config.output / f"{episode.name}.mp4", drawn, 10, 24)
        pictures += drawn[:: max(1, len(drawn) // 6)][:6]
    Image.fromarray(sanity.sheet(pictures, 6)).save(config.output / "sheet.png")
    error = sanity.round_trip(episodes, head)
    print(
        f"{len(episodes)} demos. Round trip recorded point -> target -> lifted point: "
        f"geometry {error.exact * 1e3:.3f} mm; "
        f"rounded to {config.head.grid[0]} x {config.head.grid[1]} cells x {config.head.height_bins} heights: "
        f"median {error.median * 100:.2f} cm, largest {error.worst * 100:.2f} cm "
        f"({error.cells:.2f} cells, {error.bins:.2f} bins). Pictures in {config.output}"
    )
    if error.exact > GEOMETRY or max(error.cells, error.bins) > ROUNDING:
        raise UserError(
            "the round trip loses more than quantisation; the camera or the poses in the file are wrong"
        )


if __name__ == "__main__":
    main(CheckConfig, run)
