"""What is wrong with data before anything is trained on them: checks with fixes, and the numbers drawn on the frames.

python stages/check_data.py --data.rollouts data/grid.hdf5 --output runs/check

Ends with status 2 if a check found an error.
"""

from vidpara.check_sources import check_all, check_each, check_space
from vidpara.cli import UserError, main
from vidpara.config import CheckConfig
from vidpara.data.episode import Episode
from vidpara.data.finding import PASSED, Finding
from vidpara.heads.pixel import PixelHead
from vidpara.report import data_page, sanity


def run(config: CheckConfig, argv: list[str]) -> None:
    findings: dict[str, list[Finding]] = {}
    read: list[Episode] = []
    for source, found, checks in check_each(config):
        print(source.name)
        findings[str(source.name)] = [told(each) for each in checks]
        read += found
    print("all sources")
    episodes, checks = check_all(read, config.data)
    head, acting = None, [episode for episode in episodes if episode.labelled]
    space = check_space(episodes, config.data) if acting else None
    if isinstance(space, Finding):
        checks.append(space)
    elif space:
        head = PixelHead(32, config.data.clip.frames - 1, config.head, space)
        checks.append(sanity.judge(sanity.round_trip(acting, head), config.head))
    findings["all sources"] = [told(each) for each in checks]
    config.output.mkdir(parents=True, exist_ok=True)
    (config.output / PASSED).unlink(missing_ok=True)
    page = data_page.write(config.output, findings, sanity.draw(episodes or read, head, config))
    wrong = [each for found in findings.values() for each in found if each.verdict == "error"]
    if wrong:
        names = ", ".join(each.check for each in wrong)
        raise UserError(f"an error was found ({names}); see {page}")
    (config.output / PASSED).touch()
    print(f"{len(episodes)} episodes checked; pictures in {page}")


def told(finding: Finding) -> Finding:
    """The finding, once it is printed."""
    print(f"{finding.verdict:<9}{finding.check}: {finding.found}{finding.fix and f'; {finding.fix}'}")
    return finding


if __name__ == "__main__":
    main(CheckConfig, run)
