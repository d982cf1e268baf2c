"""ACT against its description: style, masking, ensemble of terms; it overfits one batch."""

from __future__ import annotations

import torch

from tests.heads.test_heads import CHANNELS, SPACE, A, camera, example, fit
from vidpara.build_policy import build_head
from vidpara.config import ACTConfig, HeadConfig
from vidpara.geometry.rotation import angle_between, from_two_columns, matrix_from_euler
from vidpara.heads.act import ACTHead

SMALL = HeadConfig(
    kind="act",
    act=ACTConfig(width=32, feedforward=64, heads=4, style_layers=1, encoder_layers=1, decoder_layers=1),
)


def head() -> ACTHead:
    torch.manual_seed(0)
    made = build_head(SMALL, CHANNELS, A, SPACE)
    assert isinstance(made, ACTHead)
    return made


def test_it_overfits_a_batch_and_acts_on_it_with_style_zero():
    features, start, actions = example()
    fitted = fit(head(), features, start, actions, steps=400)
    with torch.no_grad():
        chunk, again = fitted.act(features, start, camera()), fitted.act(features, start, camera())
    assert (chunk.position - actions.position).norm(dim=-1).mean() < 0.03
    assert (chunk.gripper.round() == actions.gripper).float().mean() > 0.9
    assert angle_between(chunk.rotation, actions.rotation).mean() < 0.2
    assert torch.equal(chunk.position, again.position)


def test_actions_are_not_rounded_to_bf16():
    features, start, _ = example()
    made = head().eval()
    with torch.autocast("cpu", torch.bfloat16):
        assert (
            made.decode(features, made.state_of(start), torch.zeros(len(start.position), 32)).dtype
            == torch.float32
        )


def test_the_divergence_is_that_of_the_style_from_the_unit_normal():
    features, start, actions = example()
    made = head().eval()
    mean, log_variance = made.encode_style(made.state_of(start), made.normalized(actions), actions.valid)
    style = torch.distributions.Normal(mean, (0.5 * log_variance).exp())
    unit = torch.distributions.Normal(torch.zeros_like(mean), torch.ones_like(mean))
    expected = torch.distributions.kl_divergence(style, unit).sum(-1).mean()
    torch.testing.assert_close(made.losses(features, start, camera(), actions)["kl"], expected)


def test_steps_without_a_label_change_neither_the_style_nor_the_losses():
    features, start, actions = example()
    made = head().eval()
    valid = actions.valid.clone()
    valid[:, -1] = False
    position = actions.position.clone()
    position[:, -1] = 9.0
    found = []
    for changed in (actions._replace(valid=valid), actions._replace(valid=valid, position=position)):
        torch.manual_seed(1)
        found.append(made.losses(features, start, camera(), changed))
    for name, value in found[0].items():
        torch.testing.assert_close(value, found[1][name])


def test_the_image_may_have_any_shape_and_its_places_are_told_apart():
    features, start, _ = example()
    made = head().eval()
    taller = features._replace(grid=features.grid[..., :8, :])
    assert made.act(taller, start, camera()).position.shape == (len(start.position), A, 3)
    mirrored = features._replace(grid=features.grid.flip(-1))
    assert not torch.allclose(
        made.act(mirrored, start, camera()).position, made.act(features, start, camera()).position
    )


def test_two_columns_give_back_their_rotation_whatever_their_length():
    rotation = matrix_from_euler(torch.randn(20, 3))
    columns = rotation[..., :2].mT * torch.tensor([0.5, 3.0])[:, None]
    torch.testing.assert_close(from_two_columns(columns.flatten(-2)), rotation)
    slanted = columns[:, 1] + 0.7 * columns[:, 0]
    torch.testing.assert_close(from_two_columns(torch.cat([columns[:, 0], slanted], -1)), rotation)


def test_the_published_sizes_are_the_defaults():
    assert ACTConfig() == ACTConfig(512, 3200, 8, 4, 4, 7, 32, 0.1)
