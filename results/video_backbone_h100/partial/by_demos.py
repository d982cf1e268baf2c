"""The study's figure with the evaluations that were cut short.

python results/video_backbone_h100/partial/by_demos.py
"""

import json
from pathlib import Path

from matplotlib.figure import Figure

from vidpara.evaluation import results
from vidpara.experiment.declare import read
from vidpara.report import figures
from vidpara.report.published import Cell, read_trainings
from vidpara.report.runs import curves_of
from vidpara.report.settings import by_setting

HERE = Path(__file__).parent


def cell(file: Path) -> Cell:
    """A published cell, or one of this folder, whose curves lie beside it."""
    recipe, _, demos = file.stem.partition("-seed0-demos")
    trainings = read_trainings(file.with_name(f"{file.stem}.training.json"))
    metrics = file.with_name(f"{file.stem}.metrics.jsonl")
    if metrics.is_file():
        trainings = [curves_of([json.loads(line) for line in metrics.read_text().splitlines()], "")]
    return Cell(file.stem, recipe, {"data.demos": int(demos)}, "", results.read(file), trainings)


def draw() -> Figure:
    """Of a cell that is whole there is nothing here."""
    whole = [file for file in HERE.parent.glob("*-seed0-demos*.json") if not file.stem.endswith(".training")]
    begun = [file for file in HERE.glob("*.json") if not (HERE.parent / file.name).exists()]
    cells = [cell(file) for file in sorted([*whole, *begun])]
    recipes = list(read(HERE.parents[2] / "configs/experiments/video_backbone.yaml").cells)
    return by_setting(sorted(cells, key=lambda each: recipes.index(each.recipe)), "data.demos", recipes)


if __name__ == "__main__":
    (HERE / "by_demos.png").write_bytes(figures.png(draw()))
