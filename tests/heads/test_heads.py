"""Pixel and regression heads: round trip, overfitting, masking."""

from __future__ import annotations

import pytest
import torch

from vidpara.build_policy import build_head
from vidpara.cli import UserError
from vidpara.config import ACTConfig, HeadConfig
from vidpara.geometry.bins import Bins
from vidpara.geometry.camera import project
from vidpara.geometry.rotation import angle_between, matrix_from_euler
from vidpara.heads.regression import RegressionHead
from vidpara.types import Actions, Camera, Features, RobotState, Workspace

B, A, CHANNELS = 3, 4, 32
HOME = matrix_from_euler(torch.tensor([3.0, 0.1, -1.5]))
SPACE = Workspace((96, 128), (-0.3, -0.3, 0.9), (0.1, 0.3, 1.2), tuple(map(tuple, HOME.tolist())))


def camera(height: float = 1.6) -> Camera:
    """Looks from that height (metres) down at the middle of the workspace."""
    eye, target = torch.tensor([0.7, 0.0, height]), torch.tensor([-0.1, 0.0, 0.95])
    z = torch.nn.functional.normalize(target - eye, dim=0)
    x = torch.nn.functional.normalize(torch.linalg.cross(torch.tensor([0.0, 0.0, -1.0]), z), dim=0)
    pose = torch.eye(4)
    pose[:3, :3], pose[:3, 3] = torch.stack([x, torch.linalg.cross(z, x), z], dim=1), eye
    intrinsics = torch.tensor([[120.0, 0, 64], [0, 120.0, 48], [0, 0, 1]])
    return Camera(intrinsics.expand(B, 3, 3), pose.expand(B, 4, 4))


def example():
    low, high = torch.tensor([-0.25, -0.2, 0.95]), torch.tensor([0.05, 0.2, 1.15])
    position = low + torch.rand(B, A, 3) * (high - low)
    seen = Camera(camera().intrinsics[:, None], camera().world_from_camera[:, None])
    actions = Actions(
        pixel=project(position, seen),
        height=position[..., 2],
        position=position,
        rotation=HOME @ matrix_from_euler(0.3 * torch.randn(B, A, 3)),
        gripper=torch.randint(0, 2, (B, A)).float(),
        valid=torch.ones(B, A, dtype=torch.bool),
        has_rotation=torch.ones(B, A, dtype=torch.bool),
    )
    grid = torch.randn(B, A + 1, CHANNELS, 12, 16)
    return Features(grid, grid.mean((-2, -1))), RobotState(position[:, 0], torch.rand(B) * 0.08), actions


def fit(head, features, start, actions, steps=250):
    optimizer = torch.optim.Adam(head.parameters(), 5e-3)
    decay = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, steps)
    for _ in range(steps):
        loss = sum(head.losses(features, start, camera(), actions).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        decay.step()
    return head.eval()


IN_IMAGE = {"kind": "global_regression", "coordinates": "image"}
HEADS = pytest.mark.parametrize("kind", [{"kind": "pixel"}, {"kind": "global_regression"}, IN_IMAGE])


@HEADS
def test_a_head_overfits_a_batch_and_acts_on_it(kind):
    features, start, actions = example()
    config = HeadConfig(**kind, grid=(24, 32), height_bins=16, width=32, rotation_bins=64)
    head = fit(build_head(config, CHANNELS, A, SPACE), features, start, actions)
    with torch.no_grad():
        chunk = head.act(features, start, camera())
    assert (chunk.position - actions.position).norm(dim=-1).max() < 0.01
    assert (chunk.gripper.round() == actions.gripper).all()
    assert angle_between(chunk.rotation, actions.rotation).max() < 0.15  # half a bin on each of three axes


def test_regressed_coordinates_are_not_rounded_to_bf16():
    features, start, _ = example()
    head = build_head(HeadConfig(kind="global_regression"), CHANNELS, A, SPACE)
    assert isinstance(head, RegressionHead)
    with torch.autocast("cpu", torch.bfloat16):
        assert head.outputs(features, start)[0].dtype == torch.float32


def test_coordinates_in_the_image_move_with_the_camera_and_those_in_the_world_do_not():
    features, start, _ = example()
    aside = torch.zeros(4, 4)
    aside[1, 3] = 0.1  # metres
    moved = camera()._replace(world_from_camera=camera().world_from_camera + aside)
    for kind, along in (({"kind": "global_regression"}, 0.0), (IN_IMAGE, 0.1)):
        head = build_head(HeadConfig(**kind, width=32), CHANNELS, A, SPACE).eval()
        with torch.no_grad():
            before, after = (head.act(features, start, seen).position for seen in (camera(), moved))
        shift = torch.tensor([0.0, along, 0.0]).expand(B, A, 3)
        torch.testing.assert_close(after - before, shift, atol=1e-5, rtol=0)


def test_coordinates_in_the_image_and_points_are_inverse_to_each_other():
    _, start, actions = example()
    head = build_head(HeadConfig(**IN_IMAGE), CHANNELS, A, SPACE)
    found = head.coordinates(actions)
    assert (found > 0).all() and (found < 1).all()
    torch.testing.assert_close(head.located(found, start, camera()), actions.position, atol=1e-5, rtol=0)


def test_a_regressed_pixel_above_the_horizon_is_no_point_and_the_hand_stays():
    _, start, actions = example()
    head = build_head(HeadConfig(**IN_IMAGE), CHANNELS, A, SPACE)
    found = head.coordinates(actions)
    found[0, 1] = torch.tensor(
        [0.5, 0.0, 0.5]
    )  # the picture's upper edge: a camera this low sees past the table
    low = camera(1.25)
    point = head.located(found, start, low)
    torch.testing.assert_close(point[0, 1], start.position[0], atol=1e-5, rtol=0)
    assert (point[0, 2] - start.position[0]).norm() > 1e-3


@pytest.mark.parametrize("kind", ["pixel", "act"])
def test_only_regression_can_be_asked_for_coordinates_in_the_image(kind):
    with pytest.raises(UserError, match=r"coordinates image is global regression's"):
        build_head(HeadConfig(kind=kind, coordinates="image"), CHANNELS, A, SPACE)


def test_above_the_horizon_there_is_nothing_to_reach_for():
    """A camera that stands low sees past the table: however sure the head is, no point lies there."""
    features, start, _ = example()
    head = build_head(HeadConfig(grid=(24, 32), height_bins=16, width=32), CHANNELS, A, SPACE).eval()
    head.logits = lambda trunk: torch.linspace(9, 0, 24)[:, None].expand(
        B, A, 16, 24, 32
    )  # the higher, the surer
    seen, below = head.reachable(camera(1.25)), head.reachable(camera())
    assert not seen[:, :, 0].any() and seen[:, :, 1:].all() and below.all()
    with torch.no_grad():
        chunk = head.act(features, start, camera(1.25))
    assert (chunk.heatmap[:, :, 0] == 0).all() and (chunk.heatmap[:, :, 1] > 0).all()
    cameras = Camera(*(matrix[:, None] for matrix in camera(1.25)))
    rows = head.to_cell(project(chunk.position, cameras))[..., 1]
    assert ((rows > 0.9) & (rows < 2)).all()


def test_a_mean_over_both_sides_of_the_horizon_is_no_point():
    """Of a camera among the height bins: below the horizon it reaches lower planes, above it higher ones."""
    features, start, _ = example()
    head = build_head(HeadConfig(grid=(24, 32), height_bins=16, width=32), CHANNELS, A, SPACE).eval()
    low = camera(1.05)  # metres; the camera looks a little downwards
    seen = head.reachable(low)[0, :, :, 16]
    corners = [
        (k, row)
        for k, row in torch.cartesian_prod(torch.arange(15), torch.arange(1, 24)).tolist()
        if seen[k, row] and seen[k + 1, row - 1] and not seen[k + 1, row] and not seen[k, row - 1]
    ]
    (k, row), *_ = corners
    scores = torch.full((16, 24, 32), -99.0)
    scores[k, row, 16], scores[k + 1, row - 1, 16] = 1.0, 0.9
    head.logits = lambda trunk: scores.expand(B, A, -1, -1, -1)  # a volume that training need not give
    with torch.no_grad():
        chunk = head.act(features, start, low)
    assert chunk.position.isfinite().all()


@pytest.mark.parametrize(("decode", "column"), [("argmax", 20.0), ("local_mean", 20.4)])
def test_a_point_is_the_best_cells_centre_or_the_mean_around_it(decode, column):
    features, start, _ = example()
    config = HeadConfig(grid=(24, 32), height_bins=16, width=32, decode=decode)
    head = build_head(config, CHANNELS, A, SPACE).eval()
    probability = torch.full((16, 24, 32), 1e-9)
    probability[7, 10, 20], probability[7, 10, 21] = 0.6, 0.4
    head.logits = lambda trunk: probability.log().expand(B, A, -1, -1, -1)
    with torch.no_grad():
        position = head.act(features, start, camera()).position
    cells = head.to_cell(project(position, Camera(*(matrix[:, None] for matrix in camera()))))
    torch.testing.assert_close(cells, torch.tensor([column, 10.0]).expand(B, A, 2), atol=1e-3, rtol=0)
    torch.testing.assert_close(position[..., 2], head.heights.centers()[7].expand(B, A))


def test_cells_and_pixels_are_inverse_and_respect_the_aspect():
    head = build_head(HeadConfig(grid=(24, 32)), CHANNELS, A, SPACE)
    pixel = torch.rand(10, 2) * torch.tensor([128.0, 96.0])
    assert torch.allclose(head.to_pixel(head.to_cell(pixel)), pixel, atol=1e-4)
    assert torch.allclose(
        head.to_cell(torch.tensor([2.0, 2.0])), torch.zeros(2)
    )  # centre of the first 4 x 4 cell


@HEADS
def test_invalid_steps_do_not_count(kind):
    features, start, actions = example()
    head = build_head(HeadConfig(**kind, grid=(24, 32), width=32), CHANNELS, A, SPACE)
    valid = actions.valid.clone()
    valid[:, -1] = False
    wrong = actions._replace(valid=valid, pixel=actions.pixel.clone(), position=actions.position.clone())
    wrong.pixel[:, -1], wrong.position[:, -1] = 0.0, 9.0
    ours = head.losses(features, start, camera(), wrong)
    theirs = head.losses(features, start, camera(), actions._replace(valid=valid))
    assert {k: v.item() for k, v in ours.items()} == {k: v.item() for k, v in theirs.items()}


def test_hard_targets_are_those_of_regressions_bins_too():
    features, start, actions = example()
    actions = actions._replace(gripper=torch.rand(B, A) * 0.8 + 0.1)
    found = {}
    for targets in ("soft", "hard"):
        torch.manual_seed(0)
        head = build_head(HeadConfig("global_regression", targets=targets), CHANNELS, A, SPACE)
        closing = Bins(0.0, 1.0, 32)
        at_centres = actions._replace(gripper=closing.value(closing.coordinate(actions.gripper).round()))
        found[targets] = [head.losses(features, start, camera(), given) for given in (actions, at_centres)]
    soft, hard = found["soft"], found["hard"]
    assert hard[0]["gripper"].item() == pytest.approx(hard[1]["gripper"].item())
    assert soft[0]["gripper"].item() != pytest.approx(soft[1]["gripper"].item(), rel=1e-3)
    assert hard[0]["rotation"].item() != pytest.approx(soft[0]["rotation"].item(), rel=1e-3)
    assert hard[0]["position"].item() == soft[0]["position"].item()


def test_the_readout_is_taken_at_the_query_pixel():
    head = build_head(HeadConfig(grid=(24, 32), width=32), CHANNELS, A, SPACE)
    trunk = torch.randn(1, A, 32, 24, 32)
    cell = torch.tensor([5.0, 7.0]).expand(1, A, 2)
    elsewhere = trunk.clone()
    elsewhere[..., 7, 5] += 100.0
    moved = trunk.clone()
    moved[..., 15, 20] += 100.0
    reference = head.read_at(trunk, cell)[0]
    assert not torch.allclose(head.read_at(elsewhere, cell)[0], reference)
    assert torch.allclose(head.read_at(moved, cell)[0], reference)


@pytest.mark.parametrize("kind", ["pixel", "global_regression", "act"])
def test_a_rotation_that_is_not_known_is_learnt_from_in_no_way(kind):
    features, start, actions = example()
    small = ACTConfig(width=32, feedforward=64, heads=4, style_layers=1, encoder_layers=1, decoder_layers=1)
    head = build_head(HeadConfig(kind=kind, grid=(24, 32), width=32, act=small), CHANNELS, A, SPACE).eval()
    known = torch.ones(B, A, dtype=torch.bool)
    known[1:] = False

    def losses_and_gradient(rotation: torch.Tensor, known: torch.Tensor):
        torch.manual_seed(0)
        head.zero_grad()
        given = actions._replace(rotation=rotation, has_rotation=known)
        losses = head.losses(features, start, camera(), given)
        sum(losses.values()).backward()
        return losses, [part.grad.clone() for part in head.parameters() if part.grad is not None]

    other = actions.rotation.clone()
    other[1:] = torch.eye(3)
    (losses, gradient), (same, same_gradient) = (
        losses_and_gradient(rotation, known) for rotation in (actions.rotation, other)
    )
    assert all(torch.equal(losses[name], same[name]) for name in losses)
    assert all(torch.equal(a, b) for a, b in zip(gradient, same_gradient, strict=True))
    whole, _ = losses_and_gradient(actions.rotation, torch.ones_like(known))
    none, _ = losses_and_gradient(actions.rotation, torch.zeros_like(known))
    assert none["rotation"] == 0 < losses["rotation"] != whole["rotation"]
    if kind != "act":  # its style sees the whole chunk
        assert all(whole[name] == none[name] for name in whole if name != "rotation")
