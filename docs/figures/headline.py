"""The README's figure: success against labelled demonstrations, and against the tilt of the camera, from results/.

python docs/figures/headline.py
"""

import math
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vidpara.evaluation import results
from vidpara.evaluation.statistics import wilson
from vidpara.report import figures, views

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
    "act": "ViT, ACT",
    "dinov3_regression": "ViT, regression",
}
LABELS = (4, 16, 64, 240)
ASIDE = 1.05
"""Factor between the places of two trainings of one recipe, so that their intervals do not hide one another."""


def trainings(recipe: str, labels: int) -> list[results.Results]:
    """All evaluated trainings of a recipe: two machines, and seeds. Some have fewer than 100 starts."""
    folders = [ROOT / "results" / study for study in STUDIES]
    files = [file for folder in folders for file in sorted(folder.glob(f"{recipe}-seed*-demos{labels}.json"))]
    return [results.read(file) for file in files]


def by_labels(axes: Axes) -> None:
    """A point a training with its interval, hollow where it has fewer than 100 starts, and a line through the means."""
    for recipe, color in zip(RECIPES, figures.PALETTE, strict=False):
        means = {}
        for labels in LABELS:
            found = trainings(recipe, labels)
            rates = [100 * each.count("PLACE") / len(each.episodes) for each in found]
            for place, (rate, each) in enumerate(zip(rates, found, strict=True)):
                low, high = (100 * bound for bound in wilson(each.count("PLACE"), len(each.episodes)))
                x = labels * ASIDE ** (2 * place - len(found) + 1 + list(RECIPES).index(recipe) / 2)
                axes.errorbar(
                    x, rate, [[rate - low], [high - rate]], color=color, marker="o", markersize=3.5,
                    capsize=2, elinewidth=0.8, markerfacecolor=color if len(each.episodes) >= 100 else "white",
                )  # fmt: skip
            if rates:
                means[labels] = sum(rates) / len(rates)
        line = [means.get(labels, math.nan) for labels in LABELS]  # broken where nothing was run
        axes.plot(LABELS, line, color=color, linewidth=1.5, label=RECIPES[recipe])
    axes.set(xscale="log", ylim=(0, 100), xlabel="labelled demonstrations, of 240", title="PLACE (%)")
    axes.set_xticks(LABELS, [str(labels) for labels in LABELS])
    axes.minorticks_off()


def by_tilt(axes: Axes) -> None:
    """A line a policy, 24 episodes a point."""
    colors = (figures.PALETTE[4], figures.PALETTE[0], figures.PALETTE[6], figures.PALETTE[3])
    for place, (policy, color) in enumerate(zip(POLICIES, colors, strict=True)):
        at, rates, spread = views.rates_by_tilt(results.read(ROOT / f"results/ood_views/{policy}-views.json"))
        x = [tilt + 0.25 * (place - 1.5) for tilt in at]
        axes.errorbar(
            x, rates, spread, color=color, marker="o", markersize=3.5, linewidth=1.5, capsize=2,
            elinewidth=0.8, label=POLICIES[policy],
        )  # fmt: skip
    axes.set(ylim=(0, 100), xlabel="tilt of the camera from the one trained on (degrees)", title="PLACE (%)")


def draw() -> Figure:
    """Both panels, a legend below each."""
    with matplotlib.rc_context({**figures.STYLE, "figure.facecolor": "white", "savefig.facecolor": "white"}):
        figure = Figure(figsize=(9.0, 3.6), layout="constrained")
        left, right = figure.subplots(1, 2)
        by_labels(left)
        by_tilt(right)
        left.legend(loc="lower right", fontsize=8)
        right.legend(loc="upper right", fontsize=8)
    return figure


if __name__ == "__main__":
    Path(__file__).with_suffix(".png").write_bytes(figures.png(draw()))
