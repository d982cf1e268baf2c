"""Maps of positions say where the object stood, what came of it, and what is not known."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from vidpara.evaluation.results import EpisodeRecord, Outcome, Results
from vidpara.report import figures, maps
from vidpara.types import EpisodeStart


def found(cell: str, outcomes: tuple[Outcome, ...] = ("PLACE", "MISS", "MISS", "GRASP")) -> Results:
    """Episode i with the object at x = i / 10, y = i / 5."""
    starts = [EpisodeStart(i, (("object", 0.1 * i, 0.2 * i),), (0.0, 0.0)) for i in range(len(outcomes))]
    episodes = tuple(EpisodeRecord(*each, 9, 3, 1.0) for each in zip(starts, outcomes, strict=True))
    return Results(cell, episodes, "", {}, {}, 0, {})


def test_the_map_puts_every_start_where_its_outcome_is_marked():
    axes = maps.start_maps([found("two_stage", ("PLACE", "MISS", "MISS"))]).axes[0]
    offsets = {group.get_label(): np.asarray(group.get_offsets()).tolist() for group in axes.collections}
    assert offsets == {"PLACE": [[0.0, 0.0]], "MISS": [[0.2, 0.1], [0.4, 0.2]]}


def test_outcomes_differ_in_shape():
    axes = maps.start_maps([found("two_stage")]).axes[0]
    shapes = {
        (np.asarray(group.get_paths()[0].vertices).tobytes(), np.asarray(group.get_facecolors())[:, :3].min() == 1)
        for group in axes.collections
    }  # fmt: skip
    assert len(shapes) == len(figures.OUTCOMES)


def test_starts_of_liberos_own_layout_have_no_place_on_the_map():
    episodes = (EpisodeRecord(EpisodeStart(0, (), (0.0, 0.0)), "PLACE", 9, 3, 1.0),)
    assert not maps.start_maps([Results("two_stage", episodes, "", {}, {}, 0, {})]).axes[0].collections


def numbered(axes: Axes) -> tuple[bool, bool]:
    """Whether there are numbers below the panel, and to the left of it."""
    axes.figure.draw_without_rendering()
    return tuple(
        any(label.get_visible() and label.get_text() for label in labels)
        for labels in (axes.get_xticklabels(), axes.get_yticklabels())
    )  # pyright: ignore


def test_a_panel_beside_a_gap_has_the_numbers_that_the_gap_would_have():
    one = found("one")
    panels = maps.start_maps([one, one, None, one, None, one], columns=2).axes
    panels = [axes for axes in panels if axes.axison]
    assert [numbered(axes) for axes in panels] == [(True, True), (False, False), (False, True), (True, True)]
    assert [bool(axes.get_xlabel()) for axes in panels] == [True, False, False, True]


def test_a_policy_whose_demos_are_not_known_does_not_look_untrained():
    known, unknown = maps.start_maps([found("a"), found("b")], [[(0.0, 0.2)], []]).axes
    assert [text.get_text() for text in unknown.texts] == [maps.UNKNOWN]
    assert not any(text.get_text() for text in known.texts)
    assert not any(text.get_text() for text in maps.start_maps([found("a")]).axes[0].texts)


def test_names_and_notes_above_maps_do_not_run_into_each_other():
    one = found("dinov3_regression-corners-demos32-table")
    figure = maps.start_maps([one, one], [[], []])
    figure.draw_without_rendering()
    left, right = (axes._left_title.get_window_extent() for axes in figure.axes)  # pyright: ignore
    assert left.x1 < right.x0 and right.x1 <= figure.bbox.x1
    assert min(axes.xaxis.label.get_window_extent().y0 for axes in figure.axes) >= 0
    note = figure.axes[0].texts[0].get_window_extent()
    assert note.y1 <= left.y0 and note.y0 >= figure.axes[0].get_window_extent().y1
