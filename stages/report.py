"""Results, curves, strips and videos -> one self-contained HTML page.

python stages/report.py --output runs/page.html --results runs/grid.json --runs runs/video runs/policy
"""

from __future__ import annotations

from vidpara import cli
from vidpara.config import ReportConfig
from vidpara.report.page import write_page


def main(config: ReportConfig, words: list[str]) -> None:
    """Write the page."""
    write_page(config)
    print(f"{config.output} ({config.output.stat().st_size / 1e6:.1f} MB)")


if __name__ == "__main__":
    cli.main(ReportConfig, main)
