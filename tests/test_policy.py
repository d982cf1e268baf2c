"""What policies of all kinds share at run time."""

from __future__ import annotations

import torch

from vidpara.build import build_policy, build_reader
from vidpara.config import HeadConfig, PolicyConfig, TrainPolicyConfig, ViTConfig
from vidpara.geometry.camera import translate, translate_camera
from vidpara.policy import Policy
from vidpara.types import Camera, Observation, Start, Workspace

CAMERA = Camera(
    torch.tensor([[[40.0, 0, 16], [0, 40.0, 16], [0, 0, 1]]]),
    torch.tensor(
        [[[1.0, 0, 0, 0], [0, -1, 0, 0], [0, 0, -1, 2], [0, 0, 0, 1]]]
    ),  # looks straight down from 2 m
)
START = Start(torch.tensor([[0.1, 0.0, 1.0]]), torch.tensor([0.08]))
SPACE = Workspace(
    (32, 32), (-0.5, -0.5, 0.8), (0.5, 0.5, 1.2), ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
)


def of(tta_shift: int) -> Policy:
    torch.manual_seed(0)
    config = TrainPolicyConfig(
        policy=PolicyConfig(kind="image", head=HeadConfig(grid=(8, 8)), tta_shift=tta_shift),
        vit=ViTConfig(width=32, layers=1, heads=2),
    )
    return build_policy(config, build_reader(config), SPACE).eval()


def test_with_shifts_the_plan_is_the_mean_of_those_for_the_shifted_pictures():
    image = torch.randint(0, 256, (1, 32, 32, 3), dtype=torch.uint8)
    look, plain = Observation(image, CAMERA, START), of(0)
    plans = []
    for right, down in ((0, 0), (3, 0), (-3, 0), (0, 3), (0, -3)):
        moved = translate(image.movedim(-1, -3).float(), right, down).movedim(-3, -1).byte()
        plans.append(plain.act(Observation(moved, translate_camera(CAMERA, right, down), START)))
    found, own = of(3).act(look), plain.act(look)
    for name in ("position", "gripper"):
        mean = torch.stack([getattr(plan, name) for plan in plans]).mean(0)
        torch.testing.assert_close(getattr(found, name), mean, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(found.position, own.position)
    torch.testing.assert_close(found.heatmap, own.heatmap)
    torch.testing.assert_close(found.rotation, own.rotation)


def test_a_batch_of_looks_is_averaged_look_by_look():
    images = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
    policy = of(2)
    both = policy.act(
        Observation(images, *(type(x)(*(torch.cat([y, y]) for y in x)) for x in (CAMERA, START)))
    )
    for i in range(2):
        alone = policy.act(Observation(images[i : i + 1], CAMERA, START))
        torch.testing.assert_close(both.position[i : i + 1], alone.position, atol=1e-5, rtol=1e-5)


def test_a_translated_image_shows_the_same_world():
    picture = torch.arange(16.0).view(1, 1, 4, 4)
    assert translate(picture, 1, -2)[0, 0].tolist() == [[8, 8, 9, 10], *[[12, 12, 13, 14]] * 3]
    moved = translate_camera(CAMERA, 1, -2).intrinsics - CAMERA.intrinsics
    assert moved[0].tolist() == [[0, 0, 1], [0, 0, -2], [0, 0, 0]]
