"""What the baselines' heads are told of the hand, and when."""

from __future__ import annotations

import pytest
import torch

from tests.heads.test_heads import CHANNELS, SPACE, A, camera, example
from vidpara.build_policy import build_head
from vidpara.cli import UserError
from vidpara.config import ACTConfig, HeadConfig
from vidpara.heads.proprioception import proprioception

SMALL = ACTConfig(
    width=32, feedforward=64, heads=4, style_layers=1, encoder_layers=1, decoder_layers=1, dropout=0
)
BASELINES = pytest.mark.parametrize("kind", ["global_regression", "act"])


def made(kind, **settings):
    torch.manual_seed(0)
    return build_head(HeadConfig(kind=kind, act=SMALL, **settings), CHANNELS, A, SPACE)


def losses(head, features, start, actions):
    torch.manual_seed(1)  # of ACT's style, and of the noise
    return torch.stack(list(head.losses(features, start, camera(), actions).values()))


@BASELINES
@pytest.mark.parametrize("state", ["position", "opening"])
def test_plans_and_losses_depend_on_the_position_only_if_it_is_told_and_on_the_opening_always(kind, state):
    features, start, actions = example()
    head = made(kind, state=state)
    moved, closed = start._replace(position=start.position + 0.05), start._replace(opening=start.opening / 2)
    before, told_position, told_opening = (
        (head.act(features, given, camera()).position, losses(head, features, given, actions))
        for given in (start, moved, closed)
    )
    for reference, position, opening in zip(before, told_position, told_opening, strict=True):
        assert torch.equal(position, reference) == (state == "opening")
        assert not torch.equal(opening, reference)


@BASELINES
def test_noise_on_the_position_is_new_at_each_call_in_training_and_none_at_evaluation(kind):
    features, start, _ = example()
    plain, head = made(kind), made(kind, state_noise=0.02)

    def plans(head):
        return head.act(features, start, camera()).position

    assert not torch.equal(plans(head), plans(head))
    assert torch.equal(plans(plain), plans(plain))
    assert torch.equal(plans(head.eval()), plans(plain.eval()))


def test_noise_is_in_metres_on_the_position_alone():
    state, per_metre = torch.rand(20_000, 4), torch.tensor([2.0, 5.0, 10.0])
    noise = proprioception(state, per_metre, HeadConfig(state_noise=0.03), training=True) - state
    torch.testing.assert_close(noise[:, :3].std(dim=0), 0.03 * per_metre, rtol=0.03, atol=0)
    assert not noise[:, 3].any()


def test_the_published_state_is_told_by_default():
    state = torch.rand(5, 4)
    assert torch.equal(proprioception(state, torch.ones(3), HeadConfig(), training=True), state)


@BASELINES
def test_weights_fit_whatever_is_told(kind):
    other = made(kind, state="opening", state_noise=0.02)
    other.load_state_dict(made(kind).state_dict())


@pytest.mark.parametrize("settings", [{"state": "opening"}, {"state_noise": 0.02}])
def test_the_pixel_head_does_without_neither(settings):
    with pytest.raises(UserError, match=r"leave them out, or set --policy\.head\.kind"):
        made("pixel", **settings)


def test_negative_noise_is_refused():
    with pytest.raises(
        UserError, match=r"state_noise -1\.0 is a standard deviation in metres; give 0 or more"
    ):
        made("act", state_noise=-1.0)
