"""Pinhole geometry: each function against its inverse, a closed form, or the content of a picture."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vidpara.geometry.camera import (
    PARALLEL,
    inside,
    lift,
    meets,
    project,
    rays,
    resize_camera,
    resize_images,
    transform,
    translate,
    translate_camera,
    turned,
)
from vidpara.geometry.rotation import matrix_from_euler
from vidpara.types import Camera, Tensor

SIZE = 128.0


def looking_at(eye: Tensor, target: Tensor, focal: float = 150.0) -> Camera:
    """A camera at `eye` with +z towards `target` and its rows (+x) level."""
    forward = torch.nn.functional.normalize(target - eye, dim=0)
    right = torch.nn.functional.normalize(
        torch.linalg.cross(forward, torch.tensor([0.0, 0, 1]).to(eye)), dim=0
    )
    world_from_camera = torch.eye(4).to(eye)
    world_from_camera[:3, :3] = torch.stack([right, torch.linalg.cross(forward, right), forward], dim=1)
    world_from_camera[:3, 3] = eye
    intrinsics = torch.tensor([[focal, 0, SIZE / 2], [0, focal, SIZE / 2], [0, 0, 1]]).to(eye)
    return Camera(intrinsics, world_from_camera)


@st.composite
def cameras(draw: st.DrawFn) -> Camera:
    """Cameras above the table that look down at it by 5 to 85 degrees."""
    azimuth = math.radians(draw(st.floats(-180, 180)))
    tilt = math.radians(draw(st.floats(5, 85)))
    distance, focal = draw(st.floats(0.5, 2.0)), draw(st.floats(80, 400))
    level = torch.tensor([math.cos(azimuth), math.sin(azimuth), 0.0], dtype=torch.float64)
    up = torch.tensor([0.0, 0, 1], dtype=torch.float64)
    target = torch.tensor([0.1, -0.1, 0.9], dtype=torch.float64)
    return looking_at(target + distance * (math.cos(tilt) * level + math.sin(tilt) * up), target, focal)


points = st.tuples(st.floats(-0.1, 0.3), st.floats(-0.3, 0.1), st.floats(0.85, 1.0)).map(
    lambda point: torch.tensor(point, dtype=torch.float64)
)


@given(cameras(), points)
def test_lift_inverts_project(camera: Camera, position: Tensor):
    pixel = project(position, camera)
    ray = rays(pixel, camera)
    if not torch.isfinite(pixel).all() or abs(float(ray[2])) < 0.02:
        return
    torch.testing.assert_close(lift(pixel, position[2], camera), position, rtol=0, atol=1e-9)


@given(cameras(), st.floats(0, SIZE), st.floats(SIZE / 2, SIZE), st.floats(0.8, 0.95))
def test_project_inverts_lift(camera: Camera, u: float, v: float, height: float):
    pixel = torch.tensor([u, v], dtype=torch.float64)
    if float(rays(pixel, camera)[2]) > -0.05 or height > float(camera.world_from_camera[2, 3]):
        return
    position = lift(pixel, torch.tensor(height, dtype=torch.float64), camera)
    assert position[2].item() == pytest.approx(height, abs=1e-12)
    torch.testing.assert_close(project(position, camera), pixel, rtol=0, atol=1e-6)


def test_straight_down_projection_is_similar_triangles():
    down = torch.tensor([[1.0, 0, 0], [0, -1, 0], [0, 0, -1]])
    world_from_camera = torch.eye(4)
    world_from_camera[:3, :3], world_from_camera[2, 3] = down, 2.0
    camera = Camera(torch.tensor([[100.0, 0, 64], [0, 100, 32], [0, 0, 1]]), world_from_camera)
    # 1.5 m below the camera, 0.3 m along world x (image right), 0.15 m along world y (image up).
    torch.testing.assert_close(project(torch.tensor([0.3, 0.15, 0.5]), camera), torch.tensor([84.0, 22.0]))
    torch.testing.assert_close(
        lift(torch.tensor([84.0, 22.0]), torch.tensor(0.5), camera), torch.tensor([0.3, 0.15, 0.5])
    )


def test_the_principal_point_sees_the_target():
    target = torch.tensor([0.1, -0.2, 0.9])
    camera = looking_at(torch.tensor([0.7, 0.0, 1.6]), target)
    torch.testing.assert_close(project(target, camera), torch.tensor([SIZE / 2, SIZE / 2]))


def test_a_batch_of_cameras_equals_each_of_them_alone():
    eyes = torch.tensor([[0.7, 0.0, 1.6], [0.2, 0.5, 1.8], [-0.4, -0.6, 1.5]])
    alone = [looking_at(eye, torch.tensor([0.0, 0.0, 0.9])) for eye in eyes]
    batch = Camera(
        torch.stack([c.intrinsics for c in alone]), torch.stack([c.world_from_camera for c in alone])
    )
    positions = torch.tensor([[0.1, 0.0, 0.9], [0.0, 0.1, 0.95], [-0.1, 0.0, 1.0]])
    pixels = project(positions, batch)
    for index, camera in enumerate(alone):
        torch.testing.assert_close(pixels[index], project(positions[index], camera))
    torch.testing.assert_close(lift(pixels, positions[:, 2], batch), positions, rtol=0, atol=1e-5)


def test_points_behind_the_camera_have_no_pixel():
    camera = looking_at(torch.tensor([0.7, 0.0, 1.6]), torch.tensor([0.0, 0.0, 0.9]))
    positions = torch.tensor([[1.4, 0.0, 2.3], [0.7, 0.0, 1.6], [0.0, 0.0, 0.9]])
    pixels = project(positions, camera)
    assert pixels[:2].isnan().all()
    assert pixels[2].isfinite().all()
    assert inside(pixels, int(SIZE), int(SIZE)).tolist() == [False, False, True]


def test_a_point_beside_the_camera_has_no_pixel():
    level = Camera(torch.tensor([[100.0, 0.0, 64.0], [0.0, 100.0, 64.0], [0.0, 0.0, 1.0]]), torch.eye(4))
    assert project(torch.tensor([1.0, 0.0, 0.0]), level).isnan().all()


def test_inside_takes_the_first_edge_and_not_the_last():
    pixels = torch.tensor([[0.0, 0.0], [15.99, 7.99], [16.0, 0.0], [0.0, 8.0], [-0.01, 0.0]])
    assert inside(pixels, height=8, width=16).tolist() == [True, True, False, False, False]


def test_a_ray_along_the_plane_is_an_error():
    camera = looking_at(torch.tensor([1.0, 0.0, 0.9]), torch.tensor([0.0, 0.0, 0.9]))
    centre = torch.tensor([SIZE / 2, SIZE / 2])
    with pytest.raises(ValueError, match="parallel"):
        lift(centre, torch.tensor(0.9), camera)
    slightly_below = centre + torch.tensor([0.0, 150.0 * 3 * PARALLEL])
    assert lift(slightly_below, torch.tensor(0.8), camera).isfinite().all()


def test_one_parallel_ray_in_a_batch_is_an_error():
    camera = looking_at(torch.tensor([1.0, 0.0, 0.9]), torch.tensor([0.0, 0.0, 0.9]))
    with pytest.raises(ValueError, match="parallel"):
        lift(torch.tensor([[64.0, 120.0], [64.0, 64.0]]), torch.tensor([0.8, 0.8]), camera)


def test_a_ray_that_runs_away_from_the_plane_is_an_error():
    """One pixel above the horizon: the straight line meets the plane 100 metres behind the camera."""
    camera = looking_at(torch.tensor([1.0, 0.0, 0.9]), torch.tensor([0.0, 0.0, 0.9]))
    above, below = (torch.tensor([SIZE / 2, SIZE / 2 + rows]) for rows in (-1.0, 1.0))
    assert [bool(meets(pixel, torch.tensor(0.8), camera)) for pixel in (above, below)] == [False, True]
    assert [bool(meets(pixel, torch.tensor(1.0), camera)) for pixel in (above, below)] == [True, False]
    with pytest.raises(ValueError, match="in front of the camera"):
        lift(above, torch.tensor(0.8), camera)


def test_rays_have_unit_length_and_the_middle_one_looks_forward():
    camera = looking_at(torch.tensor([0.7, 0.0, 1.6]), torch.tensor([0.0, 0.0, 0.9]))
    directions = rays(torch.tensor([[64.0, 64.0], [0.0, 0.0], [128.0, 30.0]]), camera)
    torch.testing.assert_close(directions.norm(dim=-1), torch.ones(3))
    torch.testing.assert_close(directions[0], camera.world_from_camera[:3, 2])


def test_transform_by_the_inverse_returns():
    a_from_b = torch.eye(4)
    a_from_b[:3, :3] = matrix_from_euler(torch.tensor([0.3, -0.8, 2.0]))
    a_from_b[:3, 3] = torch.tensor([1.0, -2.0, 3.0])
    point = torch.tensor([[0.1, 0.2, 0.3], [-1.0, 0.0, 4.0]])
    torch.testing.assert_close(transform(torch.linalg.inv(a_from_b), transform(a_from_b, point)), point)


def centroid(image: Tensor) -> Tensor:
    """(u, v) of the bright content of `image` (rows, columns), pixel centres at +0.5."""
    v, u = torch.meshgrid(
        torch.arange(image.shape[0]) + 0.5, torch.arange(image.shape[1]) + 0.5, indexing="ij"
    )
    return torch.stack([(image * u).sum(), (image * v).sum()]) / image.sum()


def a_dot(camera: Camera) -> tuple[Tensor, Tensor]:
    """A point (metres) and a picture with a smooth bright dot where it projects: 128 x 128, 0 to 255."""
    position = torch.tensor([0.03, 0.04, 0.92])
    pixel = project(position, camera)
    v, u = torch.meshgrid(torch.arange(128) + 0.5, torch.arange(128) + 0.5, indexing="ij")
    dot = 255 * torch.exp(-((u - pixel[0]) ** 2 + (v - pixel[1]) ** 2) / (2 * 4.0**2))
    torch.testing.assert_close(centroid(dot), pixel, rtol=0, atol=1e-2)
    return position, dot


@pytest.mark.parametrize("size", [(64, 64), (256, 320), (96, 96), (40, 100), (33, 77), (128, 128)])
def test_a_projected_point_stays_on_its_content_when_resized(size: tuple[int, int]):
    camera = looking_at(torch.tensor([0.7, 0.0, 1.6]), torch.tensor([0.0, 0.0, 0.9]))
    position, dot = a_dot(camera)
    resized = resize_images(dot.round().byte()[None, ..., None].expand(-1, -1, -1, 3), size)
    follows = resize_camera(camera, (128, 128), size)
    assert resized.shape == (1, *size, 3) and resized.dtype == torch.uint8
    torch.testing.assert_close(
        centroid(resized[0, ..., 0].float()), project(position, follows), rtol=0, atol=0.05
    )
    assert torch.equal(follows.world_from_camera, camera.world_from_camera)


def test_images_of_the_size_that_is_asked_for_are_not_copied():
    images = torch.zeros(2, 30, 40, 3, dtype=torch.uint8)
    assert resize_images(images, (30, 40)) is images


@pytest.mark.parametrize("by", [(0, 0), (3, -7), (-16, 16)])
def test_a_projected_point_stays_on_its_content_when_moved(by: tuple[int, int]):
    camera = looking_at(torch.tensor([0.7, 0.0, 1.6]), torch.tensor([0.0, 0.0, 0.9]))
    position, dot = a_dot(camera)
    moved, follows = translate(dot[None], *by)[0], translate_camera(camera, *by)
    torch.testing.assert_close(centroid(moved), project(position, follows), rtol=0, atol=0.05)


def test_a_turned_camera_looks_elsewhere_by_its_degrees_from_the_same_place():
    axis = np.array([0.6, 0.8, 0.0])
    true = looking_at(torch.tensor([1.0, 0.2, 1.6]), torch.tensor([0.1, -0.1, 0.9]))
    told = turned(true, axis, 5.0)
    assert torch.equal(told.world_from_camera[:3, 3], true.world_from_camera[:3, 3])
    before, after = (camera.world_from_camera[:3, :3] for camera in (true, told))
    torch.testing.assert_close(after @ after.T, torch.eye(3), atol=1e-6, rtol=0)
    cosine = (torch.trace(before.T @ after) - 1) / 2
    assert math.degrees(math.acos(cosine)) == pytest.approx(5.0, abs=1e-3)
    about = torch.from_numpy(axis).float()
    torch.testing.assert_close(before.T @ after @ about, about, atol=1e-6, rtol=0)


def test_a_camera_turned_about_its_downward_axis_looks_to_its_right():
    true = looking_at(torch.tensor([1.0, 0.2, 1.6]), torch.tensor([0.1, -0.1, 0.9]))
    right, _, forward = true.world_from_camera[:3, :3].unbind(-1)
    told = turned(true, np.array([0.0, 1.0, 0.0]), 30.0).world_from_camera[:3, 2]
    torch.testing.assert_close(told, 0.5 * right + math.sqrt(0.75) * forward, atol=1e-6, rtol=0)


@given(cameras(), st.integers(-40, 40), st.integers(-40, 40))
def test_a_translated_images_camera_projects_to_the_moved_pixels(camera: Camera, right: int, down: int):
    point = torch.tensor([[0.1, -0.1, 0.9]], dtype=torch.float64)
    batched = Camera(camera.intrinsics[None], camera.world_from_camera[None])
    moved = project(point, translate_camera(batched, right, down)) - project(point, batched)
    torch.testing.assert_close(moved[0], torch.tensor([right, down], dtype=torch.float64), atol=1e-9, rtol=0)


def test_content_moves_by_whole_pixels_and_edges_repeat():
    picture = torch.arange(16.0).view(1, 1, 4, 4)
    assert translate(picture, 1, -2)[0, 0].tolist() == [[8, 8, 9, 10], *[[12, 12, 13, 14]] * 3]
