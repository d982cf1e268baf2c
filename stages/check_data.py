"""What is wrong with data before anything is trained on them: checks with fixes, and the numbers drawn on the frames.

python stages/check_data.py --data.rollouts data/grid.hdf5 --output runs/check

Ends with status 2 if a check found an error.
"""

import itertools
from pathlib import Path

from PIL import Image

from vidpara.check_actions import check_actions
from vidpara.cli import UserError, main
from vidpara.config import CheckConfig
from vidpara.data import headers
from vidpara.data.clips import workspace
from vidpara.data.episode import Episode
from vidpara.data.finding import Finding
from vidpara.data.sources import read_sources
from vidpara.data.verify import verify
from vidpara.evaluation.video import write_mp4
from vidpara.heads.pixel import PixelHead
from vidpara.report import data_page, sanity


def run(config: CheckConfig, argv: list[str]) -> None:
    episodes = read_sources(config.data)
    findings: dict[str, list[Finding]] = {}
    for source in config.data.rollouts:
        of_source = [episode for episode in episodes if episode.source == source]
        of_actions = check_actions(source, of_source, config.data, config.replay)
        findings[str(source)] = [
            told(each) for each in itertools.chain(headers.check(of_source), verify(of_source), of_actions)
        ]
    config.output.mkdir(parents=True, exist_ok=True)
    pictures = []
    if labelled := [episode for episode in episodes if episode.labelled]:
        head = PixelHead(32, config.data.clip.frames - 1, config.head, workspace(episodes))
        error = sanity.round_trip(labelled, head)
        findings["all sources"] = [told(sanity.judge(error, config.head))]
        pictures = draw(labelled[: config.demos], head, config)
    page = data_page.write(config.output, findings, pictures)
    wrong = [each for found in findings.values() for each in found if each.verdict == "error"]
    if wrong:
        names = ", ".join(each.check for each in wrong)
        raise UserError(f"{len(wrong)} checks found an error ({names}); see {page}")
    print(f"{len(episodes)} episodes checked; pictures in {page}")


def told(finding: Finding) -> Finding:
    """The finding, once it is printed."""
    print(f"{finding.verdict:<9}{finding.check}: {finding.found}{finding.fix and f'; {finding.fix}'}")
    return finding


def draw(episodes: list[Episode], head: PixelHead, config: CheckConfig) -> list[Path]:
    """A sheet of frames, and a film of each episode."""
    sheet, files = [], [config.output / "sheet.png"]
    for episode in episodes:
        drawn = sanity.frames(episode, head, config.data.clip)
        files.append(config.output / f"{episode.name}.mp4")
        write_mp4(files[-1], drawn, 10, 24)
        sheet += drawn[:: max(1, len(drawn) // 6)][:6]
    Image.fromarray(sanity.sheet(sheet, 6)).save(files[0])
    return files


if __name__ == "__main__":
    main(CheckConfig, run)
