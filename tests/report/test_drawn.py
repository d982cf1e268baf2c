"""The figures of the documents can be drawn anew: their scripts lie beside them and read committed results."""

import runpy
from pathlib import Path

import pytest
from matplotlib.figure import Figure

ROOT = Path(__file__).parents[2]
SCRIPTS = [file for folder in ("docs", "results") for file in sorted((ROOT / folder).rglob("*.py"))]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda file: file.stem)
def test_a_figures_script_draws_lines_from_committed_results(script: Path) -> None:
    figure = runpy.run_path(str(script))["draw"]()
    assert isinstance(figure, Figure)
    assert all(axes.lines for axes in figure.axes)
