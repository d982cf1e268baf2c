"""Starts and viewpoints, without a simulator."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vidpara.cli import UserError
from vidpara.config import SceneConfig
from vidpara.simulation import scene

GRID = SceneConfig()
EYE = np.array([0.6586, 0.0, 1.6104])
SURFACE = 0.9


def default_view() -> np.ndarray:
    look_at = np.array([-0.221, 0.0, SURFACE])
    z = (look_at - EYE) / np.linalg.norm(look_at - EYE)
    x = np.array([0.0, 1.0, 0.0])
    pose = np.eye(4)
    pose[:3, :3] = np.stack([x, np.cross(z, x), z], axis=1)
    pose[:3, 3] = EYE
    return pose


def positions(start) -> dict[str, np.ndarray]:
    return {name: np.array([x, y]) for name, x, y in start.objects}


def cells(starts) -> list[tuple[int, int]]:
    low, high = np.array([GRID.x_range, GRID.y_range]).T
    where = [(positions(start)["object"] - low) / (high - low) * GRID.grid for start in starts]
    return [(int(x), int(y)) for x, y in where]


def test_256_starts_visit_every_cell_once():
    assert len(set(cells(scene.starts(GRID, 256, seed=0)))) == 256


def test_the_next_lap_visits_the_cells_in_another_order():
    starts = scene.starts(GRID, 512, seed=0)
    assert set(cells(starts[256:])) == set(cells(starts[:256]))
    assert cells(starts[256:]) != cells(starts[:256])


def test_a_longer_collection_begins_with_the_shorter_one():
    config = replace(GRID, views="sphere", distractors=3)
    assert scene.starts(config, 40, seed=0)[:7] == scene.starts(config, 7, seed=0)


def test_another_seed_gives_other_starts():
    training = {start.objects for start in scene.starts(GRID, 256, seed=0)}
    assert not training & {start.objects for start in scene.starts(GRID, 256, seed=1000)}


@pytest.mark.parametrize("target", ["anywhere", "fixed"])
def test_objects_keep_their_distance_inside_the_ranges(target):
    config = replace(GRID, target=target, distractors=4)
    for start in scene.starts(config, 100, seed=3):
        where = positions(start)
        assert np.linalg.norm(where["object"] - where["target"]) >= config.separation
        assert config.x_range[0] <= where["target"][0] <= config.x_range[1]
        assert config.y_range[0] <= where["object"][1] <= config.y_range[1]
        for number in range(4):
            others = [xy for name, xy in where.items() if name != f"distractor_{number}"]
            assert min(np.linalg.norm(where[f"distractor_{number}"] - xy) for xy in others) >= scene.CLEARANCE


def test_a_table_that_is_too_small_is_an_error_with_words():
    crowded = replace(GRID, x_range=(0.0, 0.05), y_range=(0.0, 0.05))
    with pytest.raises(UserError, match="x-range"):
        scene.starts(crowded, 1, seed=0)


def test_64_starts_visit_every_viewpoint_once():
    views = {start.view for start in scene.starts(replace(GRID, views="sphere"), 64, seed=0)}
    assert len(views) == 64
    assert {tilt for _, tilt in views} == {25.0 * step / 7 for step in range(8)}


def test_views_stay_within_the_azimuths_and_hemispheres_share_none():
    left, right = (
        {start.view for start in scene.starts(replace(GRID, views="sphere", azimuths=range_), 64, seed=0)}
        for range_ in ((90.0, 270.0), (270.0, 450.0))
    )
    assert len(left) == 64
    assert {90 <= azimuth < 270 for azimuth, _ in left} == {True}
    assert not {azimuth % 360 for azimuth, tilt in left if tilt} & {
        azimuth % 360 for azimuth, tilt in right if tilt
    }


def test_views_without_the_default_one():
    tilted = replace(GRID, views="sphere", view_grid=(8, 7), tilt_min=25 / 7)
    views = {start.view for start in scene.starts(tilted, 56, seed=0)}
    assert len(views) == 56
    assert sorted({round(tilt, 6) for _, tilt in views}) == [round(25 * step / 7, 6) for step in range(1, 8)]


def test_a_viewpoint_that_does_not_see_the_workspace_is_named():
    lens = np.array([[154.5, 0, 64], [0, 154.5, 64], [0, 0, 1]])
    scene.check_views(replace(GRID, views="sphere"), default_view(), lens, SURFACE)
    with pytest.raises(UserError, match=r"azimuth 270, tilt 45 .* not visible; lower --scene\.tilt-max"):
        scene.check_views(replace(GRID, views="sphere", tilt_max=45.0), default_view(), lens, SURFACE)
    wide = replace(GRID, views="sphere", x_range=(-0.30, 0.20))  # its middle is seen from everywhere
    with pytest.raises(UserError, match=r"azimuth 0, tilt 7.* shrink --scene\.x-range"):
        scene.check_views(wide, default_view(), lens, SURFACE)


def test_a_camera_that_looks_elsewhere_is_named():
    lens = np.array([[154.5, 0, 64], [0, 154.5, 64], [0, 0, 1]])
    away = default_view()
    away[:3, :3] = away[:3, :3] @ np.diag([-1.0, 1.0, -1.0])  # it turns its back on the table
    scene.check_views(GRID, default_view(), lens, SURFACE)
    with pytest.raises(UserError, match=r"the camera agentview does not see .* another --scene\.camera"):
        scene.check_views(GRID, away, lens, SURFACE)


def test_50_original_starts_visit_every_initial_state_once():
    starts = scene.starts(replace(GRID, layout="original"), 50, seed=1000)
    assert {start.seed % scene.INIT_STATES for start in starts} == set(range(50))
    assert not any(start.objects for start in starts)


def test_orbit_turns_the_viewing_direction_by_the_tilt_and_keeps_distance_target_and_horizon():
    look_at = np.array([-0.221, 0.0, SURFACE])
    before = default_view()
    for azimuth in range(0, 360, 45):
        after = scene.orbit(before, SURFACE, (azimuth, 20.0))
        assert np.arccos(before[:3, 2] @ after[:3, 2]) == pytest.approx(np.radians(20.0))
        assert np.linalg.norm(after[:3, 3] - look_at) == pytest.approx(np.linalg.norm(EYE - look_at))
        aim = after[:3, 3] + after[:3, 2] * np.linalg.norm(EYE - look_at)
        np.testing.assert_allclose(aim, look_at, atol=1e-9)
        assert after[2, 0] == pytest.approx(0.0) and after[2, 1] < 0  # x level, y downwards
        np.testing.assert_allclose(after[:3, :3].T @ after[:3, :3], np.eye(3), atol=1e-12)
        assert np.linalg.det(after[:3, :3]) == pytest.approx(1.0)


def test_orbit_without_tilt_is_the_default_view():
    np.testing.assert_allclose(scene.orbit(default_view(), SURFACE, (77.0, 0.0)), default_view(), atol=1e-12)


def test_azimuth_0_is_to_the_right_and_90_is_up():
    right = scene.orbit(default_view(), SURFACE, (0.0, 20.0))[:3, 3] - EYE
    up = scene.orbit(default_view(), SURFACE, (90.0, 20.0))[:3, 3] - EYE
    assert right @ default_view()[:3, 0] > 0.2
    assert up[2] > 0.1 and abs(up[1]) < 1e-9


def test_too_many_distractors_are_an_error():
    with pytest.raises(UserError, match="distractors 11"):
        scene.distractor_categories(11, ["akita_black_bowl"])


def test_distractors_are_never_of_a_category_on_the_table():
    assert "cookies" not in scene.distractor_categories(3, ["cookies", "plate"])


def test_a_fixed_target_that_leaves_no_place_is_an_error_with_words():
    config = SceneConfig(target="fixed", separation=0.62)
    with pytest.raises(UserError, match="no free place for 2 objects"):
        scene.starts(config, 1, 0)
