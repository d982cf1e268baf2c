"""Success by viewpoint: against the tilt of the camera, and on the half-sphere of views."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.projections.polar import PolarAxes

from vidpara.evaluation.results import EpisodeRecord, Results
from vidpara.evaluation.statistics import wilson
from vidpara.report import figures
from vidpara.report.published import Cell

MAP = matplotlib.colormaps["viridis"]
"""Its lightness grows from 0 to 100 %, so that it reads in grey and without red and green, too."""
COLUMNS = 4
ASIDE = 0.25
"""Degrees between two lines."""


def tilts(results: Results) -> dict[float, list[EpisodeRecord]]:
    """The episodes of each tilt (degrees), from the default view on."""
    found: dict[float, list[EpisodeRecord]] = {}
    for episode in sorted(results.episodes, key=lambda episode: episode.start.view[1]):
        found.setdefault(round(episode.start.view[1], 1), []).append(episode)
    return found


def rates_by_tilt(results: Results) -> tuple[list[float], list[float], tuple[list[float], list[float]]]:
    """The tilts, PLACE in percent at each, and how far Wilson's interval reaches below and above it."""
    groups = tilts(results)
    rates = [100 * _share(episodes) for episodes in groups.values()]
    bounds = [wilson(_placed(episodes), len(episodes)) for episodes in groups.values()]
    below = [rate - 100 * low for rate, (low, _) in zip(rates, bounds, strict=True)]
    above = [100 * high - rate for rate, (_, high) in zip(rates, bounds, strict=True)]
    return list(groups), rates, (below, above)


def by_tilt(cells: Sequence[Cell], recipes: Sequence[str] = ()) -> Figure:
    """PLACE in percent against the tilt, a line a policy, with Wilson's intervals; colours go by `recipes`."""
    styles = figures.line_styles({cell.name: cell.recipe for cell in cells}, recipes)
    with matplotlib.rc_context(figures.STYLE):
        figure = Figure(figsize=(7.0, 3.6), layout="constrained")
        axes = figure.subplots()
        draw_tilts(axes, {cell.name: cell.results for cell in cells}, styles)
        axes.set(
            xlabel="tilt of the camera from the default view (degrees)", title="PLACE (%)", ylim=(0, 100)
        )
        figure.legend(loc="outside upper left", ncols=figures.columns(figure, styles, 3))
    return figure


def draw_tilts(axes: Axes, results: Mapping[str, Results], styles: Mapping[str, Mapping[str, Any]]) -> None:
    """A line for each of the results, a little aside, so that the intervals do not hide one another."""
    for place, (name, found) in enumerate(results.items()):
        at, rates, spread = rates_by_tilt(found)
        aside = ASIDE * (place - (len(results) - 1) / 2)
        axes.errorbar(
            [tilt + aside for tilt in at], rates, spread, label=name, markersize=4.5, linewidth=1.3, capsize=2,
            elinewidth=0.8, clip_on=False, **styles[name],
        )  # fmt: skip


def view_maps(results: Sequence[Results]) -> Figure:
    """PLACE on the views: angle is the azimuth (0 the camera's right, 90 up), radius the tilt, one map a policy."""
    columns = min(COLUMNS, len(results))
    rows = math.ceil(len(results) / columns)
    with matplotlib.rc_context(figures.STYLE):
        figure = Figure(figsize=(2.6 * columns + 0.8, 2.7 * rows), layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False, subplot_kw={"projection": "polar"})
        for axes, found in zip(panels.flat, results, strict=False):
            _view_map(axes, found)
        for axes in list(panels.flat)[len(results) :]:
            axes.set_axis_off()
        scale = ScalarMappable(Normalize(0, 100), MAP)
        figure.colorbar(scale, ax=panels, label="PLACE (%)", shrink=0.7)
    return figure


def _view_map(axes: PolarAxes, found: Results) -> None:
    views: dict[tuple[float, float], list[EpisodeRecord]] = {}
    for episode in found.episodes:
        azimuth, tilt = episode.start.view
        views.setdefault((azimuth if tilt else 0.0, tilt), []).append(episode)
    azimuths = sorted({azimuth for azimuth, tilt in views if tilt})
    radii = sorted({tilt for _, tilt in views})
    wide = min(np.diff(azimuths), default=360.0)
    high = min(np.diff(radii), default=1.0)
    for (azimuth, tilt), episodes in views.items():
        color = MAP(_share(episodes))
        if tilt:
            axes.bar(
                math.radians(azimuth), high, math.radians(wide), tilt - high / 2, color=color, linewidth=0
            )
        else:
            axes.bar(0, high / 2, 2 * math.pi, 0, color=color, linewidth=0)
    axes.set_title(found.cell)
    shown = [tilt for tilt in radii if tilt]
    axes.set_yticks(shown, [f"{tilt:.0f}°" if index % 2 else "" for index, tilt in enumerate(shown)])
    axes.tick_params(axis="y", labelsize=8)
    for label in axes.get_yticklabels():  # legible on the darkest field, too
        label.set_path_effects([withStroke(linewidth=2, foreground="white")])
    axes.set_xticks(np.radians([0, 90, 180, 270]), ["right", "up", "left", "down"], fontsize=7)
    if azimuths:
        axes.set_rlabel_position(_freest(azimuths))
    axes.grid(visible=False)
    axes.spines["polar"].set_visible(False)


def _freest(azimuths: Sequence[float]) -> float:
    """Where the labels of the tilts hide least (degrees): the middle of the widest gap between the azimuths."""
    gaps = np.diff([*azimuths, azimuths[0] + 360])
    widest = int(np.argmax(gaps))
    return float(azimuths[widest] + gaps[widest] / 2)


def placed_of(episodes: Sequence[EpisodeRecord]) -> str:
    """Placed/all."""
    return f"{_placed(episodes)}/{len(episodes)}"


def _placed(episodes: Sequence[EpisodeRecord]) -> int:
    return sum(episode.outcome == "PLACE" for episode in episodes)


def _share(episodes: Sequence[EpisodeRecord]) -> float:
    return _placed(episodes) / len(episodes)
