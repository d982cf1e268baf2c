"""DINOv3 features: where they lie, what they are, and what is refused."""

from __future__ import annotations

import pytest
import torch

from vidpara.build import build_vit
from vidpara.cli import UserError
from vidpara.config import ViTConfig
from vidpara.geometry.positions import positions_2d
from vidpara.models.dinov3 import ImageModel, random_vit

SMALL = ViTConfig(patch=8, width=32, layers=3, heads=2, registers=2)


@pytest.fixture(scope="module")
def vit():
    torch.manual_seed(0)
    return random_vit(SMALL).eval()


def test_features_are_the_last_blocks_patches_and_class_token_of_one_moment(vit):
    present = torch.rand(2, 3, 32, 48) * 2 - 1
    model = ImageModel(vit, (-1,))
    features = model(present)
    assert features.grid.shape == (2, 1, 32, 4, 6) and features.pooled.shape == (2, 1, 32)
    output = vit((present * 0.5 + 0.5 - model.mean) / model.std)
    torch.testing.assert_close(features.grid[:, 0].flatten(-2).mT, output.last_hidden_state[:, 3:])
    torch.testing.assert_close(features.pooled[:, 0], output.pooler_output)
    assert features.future is features  # it stands for every moment


def test_a_cell_sees_its_own_patch_most(vit):
    model = ImageModel(vit, (-1,))
    present = torch.zeros(1, 3, 32, 48)
    changed = present.clone()
    changed[..., 16:24, 8:16] = 1.0
    difference = (model(changed).grid - model(present).grid)[0, 0].norm(dim=0)
    assert divmod(int(difference.argmax()), 6) == (2, 1)


def test_several_blocks_are_joined_channel_by_channel(vit):
    present = torch.rand(1, 3, 32, 32)
    both = ImageModel(vit, (0, -1))(present)
    last = ImageModel(vit, (-1,))(present)
    assert both.grid.shape[2] == both.pooled.shape[2] == 64
    torch.testing.assert_close(both.grid[:, :, 32:], last.grid)


@pytest.mark.parametrize("levels", [(-1,), (0, 1), (1, -3)])
def test_whatever_learns_gets_a_gradient(levels: tuple[int, ...]):
    """Data parallelism waits for the gradient of every parameter that learns, at the second step for ever."""
    model = ImageModel(random_vit(SMALL).train(), levels)
    model(torch.rand(2, 3, 32, 32)).grid.sum().backward()
    learning = {name: each for name, each in model.named_parameters() if each.requires_grad}
    assert learning and not [name for name, each in learning.items() if each.grad is None]


def test_positions_do_not_change_from_call_to_call_in_training():
    model = ImageModel(random_vit(SMALL).train(), (-1,))
    present = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(model(present).grid, model(present).grid)


def test_absolute_positions_are_added_to_the_patches_alone_and_only_for_this_forward(vit):
    present = torch.rand(2, 3, 32, 48) * 2 - 1
    read: list[torch.Tensor] = []
    handle = vit.model.layer[0].register_forward_pre_hook(lambda _m, inputs: read.append(inputs[0]))
    try:
        for absolute in (False, True, False):
            ImageModel(vit, (-1,), absolute)(present)
    finally:
        handle.remove()
    prefix = 1 + SMALL.registers
    torch.testing.assert_close(read[1][:, prefix:], read[0][:, prefix:] + positions_2d(4, 6, 32))
    assert torch.equal(read[1][:, :prefix], read[0][:, :prefix]) and torch.equal(read[2], read[0])


def test_a_class_token_that_attends_evenly_learns_where_patches_are_from_absolute_positions_alone():
    torch.manual_seed(0)
    even = random_vit(SMALL).eval()
    for layer in even.model.layer:
        torch.nn.init.zeros_(layer.attention.q_proj.weight)
        torch.nn.init.zeros_(layer.attention.q_proj.bias)
    present = torch.zeros(1, 3, 32, 48)
    present[..., :8, :8] = torch.rand(3, 8, 8)
    moved = present.roll((16, 24), dims=(-2, -1))  # by whole patches
    rotary, absolute = (ImageModel(even, (-1,), each) for each in (False, True))
    torch.testing.assert_close(rotary(moved).pooled, rotary(present).pooled)
    assert (absolute(moved).pooled - absolute(present).pooled).abs().max() > 0.01


def test_a_published_folder_loads_and_positions_stay_fixed(vit, tmp_path):
    vit.save_pretrained(tmp_path)
    loaded = build_vit(ViTConfig(weights=str(tmp_path)))
    present = torch.rand(1, 3, 32, 32)
    ours, theirs = (ImageModel(each.train(), (-1,))(present) for each in (loaded, vit))
    torch.testing.assert_close(ours.grid, theirs.grid)


def test_a_patch_that_does_not_divide_the_image_is_named(vit):
    with pytest.raises(UserError, match=r"vit\.patch 8 does not divide the image of \(30, 32\)"):
        ImageModel(vit, (-1,))(torch.zeros(1, 3, 30, 32))
    with pytest.raises(UserError, match=r"vit\.levels \(7,\): the ViT has blocks -3 to 2"):
        ImageModel(vit, (7,))
