"""The figures of the documents can be drawn anew: their scripts lie beside them and read committed results."""

import runpy
from pathlib import Path

import pytest
from matplotlib.figure import Figure

ROOT = Path(__file__).parents[2]
SCRIPTS = [file for folder in ("docs", "results") for file in sorted((ROOT / folder).rglob("*.py"))]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda file: file.stem)
def test_a_figures_script_draws_lines_or_a_film_from_committed_results(script: Path) -> None:
    drawn = runpy.run_path(str(script))["draw"]()
    if isinstance(drawn, Figure):
        assert all(axes.lines for axes in drawn.axes)
    else:
        assert len({picture.tobytes() for picture in drawn}) > 10
