"""The README's figure: success against labelled demonstrations, and against the tilt of the camera, from results/.

python docs/figures/headline.py
"""

from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vidpara.evaluation import results
from vidpara.report import figures, settings, views

ROOT = Path(__file__).parents[2]
STUDIES = ("video_backbone", "video_backbone_h100", "video_backbone_h100/partial")
RECIPES = {
    "two_stage": "two-stage",
    "joint_equal": "joint from scratch, as many steps",
    "frozen_backbone": "heads on the frozen stage one",
}
POLICIES = {
    "dinov3_para": "ViT, PARA",
    "checkpoint": "two-stage, video",
    "dinov3_image_regression": "ViT, regression in the image",
    "act": "ViT, ACT",
    "dinov3_regression": "ViT, regression",
}


def trainings(recipe: str) -> dict[float, list[results.Results]]:
    """All evaluated trainings of a recipe by their labels: two machines, and seeds. Some have fewer than 100 starts."""
    found: dict[float, list[results.Results]] = {}
    for study in STUDIES:
        for file in sorted((ROOT / "results" / study).glob(f"{recipe}-seed*-demos*.json")):
            if not file.stem.endswith(".training"):
                found.setdefault(int(file.stem.rpartition("demos")[2]), []).append(results.read(file))
    return found


def by_labels(axes: Axes) -> None:
    """A point a training with its interval, hollow where it has fewer than 100 starts, and a line through the means."""
    lines = {
        label: {labels: [settings.success(each, 100) for each in those] for labels, those in found.items()}
        for label, found in ((label, trainings(recipe)) for recipe, label in RECIPES.items())
    }
    styles = figures.styles(list(lines))
    settings.draw(axes, lines, styles)
    axes.set(ylim=(0, 100), xlabel="labelled demonstrations, of 240", title="PLACE (%)")
    axes.legend(handles=settings.handles(lines, styles), loc="lower right", fontsize=8)


def by_tilt(axes: Axes) -> None:
    """A line a policy, 24 episodes a point."""
    found = {
        label: results.read(ROOT / f"results/ood_views/{policy}-views.json")
        for policy, label in POLICIES.items()
    }
    styles = figures.styles([*RECIPES.values(), *POLICIES.values()])
    styles[POLICIES["checkpoint"]] = styles[RECIPES["two_stage"]]  # one policy, in both panels
    views.draw_tilts(axes, found, styles)
    axes.set(ylim=(0, 100), xlabel="tilt of the camera from the one trained on (degrees)", title="PLACE (%)")
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=8)


def draw() -> Figure:
    """Both panels, a legend in the first and beside the second."""
    with matplotlib.rc_context({**figures.STYLE, "figure.facecolor": "white", "savefig.facecolor": "white"}):
        figure = Figure(figsize=(10.4, 3.6), layout="constrained")
        left, right = figure.subplots(1, 2)
        by_labels(left)
        by_tilt(right)
    return figure


if __name__ == "__main__":
    Path(__file__).with_suffix(".png").write_bytes(figures.png(draw()))
