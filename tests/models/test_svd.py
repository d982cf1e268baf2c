"""The video model around diffusers' UNet."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from vidpara.build import build_unet
from vidpara.cli import UserError
from vidpara.config import DiffusionConfig, UNetConfig
from vidpara.models.diffusion import scheduler
from vidpara.models.layout import use_channels_last
from vidpara.models.svd import VideoModel, random_unet, tapped

B, T, C, S = 2, 3, 4, 8
SMALL = UNetConfig(channels=(32, 64, 64), attention=(False, False, True), context_dim=16)


def model() -> VideoModel:
    return VideoModel(random_unet(SMALL, C, T), DiffusionConfig()).eval()


def inputs():
    return (
        torch.randn(B, T, C, S, S), torch.tensor([700.0, 1.0]), torch.randn(B, C, S, S), torch.zeros(B, 1, 16),
        torch.zeros(B),
    )  # fmt: skip


@torch.no_grad()
def test_early_exit_gives_the_features_of_the_full_forward():
    video, arguments = model(), inputs()
    full, expected = video.predict(*arguments, taps=(0, 1))
    nothing, features = video.predict(*arguments, taps=(0, 1), output=False)
    assert features is not None and expected is not None
    assert nothing.numel() == 0 and full.shape == (B, T, C, S, S)
    assert torch.equal(features.grid, expected.grid) and torch.equal(features.pooled, expected.pooled)


@torch.no_grad()
def test_nothing_runs_above_the_last_tap():
    video, ran = model(), []
    for i, block in enumerate(video.unet.up_blocks):
        block.register_forward_hook(lambda *_, i=i: ran.append(i))
    video.predict(*inputs(), taps=(1,), output=False)
    assert ran == [0, 1]


@torch.no_grad()
def test_a_clip_is_denoised_as_by_diffusers_euler_sampler():
    video, (present, context) = model(), (torch.randn(B, C, S, S), torch.zeros(B, 1, 16))
    found = video.generate(present, context, T, 4, torch.Generator().manual_seed(0))
    sampler = scheduler(video.diffusion)
    sampler.set_timesteps(4)
    clip = torch.randn((B, T, C, S, S), generator=torch.Generator().manual_seed(0)) * sampler.init_noise_sigma
    for time, sigma in zip(sampler.timesteps, sampler.sigmas, strict=False):
        prediction, _ = video.predict(clip, sigma.expand(B), present, context, torch.zeros(B))
        clip = sampler.step(prediction, time, clip).prev_sample
    torch.testing.assert_close(found, clip, rtol=1e-4, atol=1e-4)
    assert found.isfinite().all() and found.std() > 0.1


@torch.no_grad()
def test_channels_may_lie_last():
    torch.manual_seed(0)
    plain, other, arguments = (*(build_unet(SMALL, C, T) for _ in range(2)), inputs())
    other.load_state_dict(plain.state_dict())
    use_channels_last(other)
    assert other.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
    expected, found = (VideoModel(unet, DiffusionConfig()).predict(*arguments)[0] for unet in (plain, other))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    chosen = build_unet(replace(SMALL, channels_last=True), C, T)
    assert not chosen.conv_in.weight.is_contiguous()


def test_taps_leave_no_hooks_behind():
    video = model()
    with tapped(video.unet, (0, 2), stop=True):
        assert video.unet.up_blocks[2]._forward_hooks
    assert not any(block._forward_hooks for block in video.unet.up_blocks)


@torch.no_grad()
def test_features_of_several_taps_are_joined_at_the_finest_resolution():
    _, features = model().predict(*inputs(), taps=(0, 2))
    assert features is not None
    assert features.grid.shape == (B, T, 64 + 32, S, S)
    assert features.pooled.shape == (B, T, 64 + 32)


def test_the_present_frame_conditions_every_frame():
    video, (noisy, sigma, present, context, still) = model(), inputs()
    first, _ = video.predict(noisy, sigma, present, context, still)
    other, _ = video.predict(noisy, sigma, present + 1, context, still)
    assert ((first - other).abs().amax((2, 3, 4)) > 1e-4).all()


@torch.no_grad()
def test_the_conditioning_noise_is_of_the_latents_scaled_with_them_and_told():
    """Unlike SVD's, which is of the image: docs/full_size.md."""
    seen, scale, present = [], 5.0, torch.randn(B, C, 64, 64)
    video = VideoModel(random_unet(SMALL, C, T), DiffusionConfig(), scale).eval()
    video.unet.register_forward_pre_hook(lambda _module, arguments: seen.append(arguments))
    strength, clip = torch.tensor([0.0, 0.5]), torch.randn(B, T, C, 64, 64)
    video.predict(clip, torch.ones(B), present, torch.zeros(B, 1, 16), strength, taps=(0,), output=False)
    sample, _, _, ids = seen[0]
    noise = sample[:, :, C:] / scale - present[:, None]
    torch.testing.assert_close(noise[0], torch.zeros_like(noise[0]), atol=1e-5, rtol=0)
    assert noise[1].std() == pytest.approx(0.5, rel=0.03) and torch.equal(noise[1, 0], noise[1, 2])
    assert torch.equal(ids[:, 2], strength)


def test_generation_is_repeatable_and_has_the_clips_shape():
    video, (_, _, present, context, _) = model(), inputs()
    clips = [video.generate(present, context, T, 3, torch.Generator().manual_seed(1)) for _ in range(2)]
    assert clips[0].shape == (B, T, C, S, S) and torch.equal(*clips) and clips[0].isfinite().all()


def test_channels_that_groupnorm_cannot_divide_are_named():
    with pytest.raises(UserError, match=r"unet.channels \[48\] must be divisible by 32"):
        random_unet(UNetConfig(channels=(32, 48), attention=(False, True)), C, T)


def test_an_update_has_clips_of_both_kinds_where_some_start_from_nothing():
    video = VideoModel(random_unet(SMALL, C, T), DiffusionConfig(blank=0.25))
    assert [video.blank(count) for count in (2, 3, 8)] == [1, 1, 2]
    with pytest.raises(UserError, match=r"1 clip, diffusion\.blank 0\.25 .* --trainer\.accumulate 2"):
        video.blank(1)
    for share in (0.0, 1.0):
        video.diffusion = DiffusionConfig(blank=share)
        assert video.blank(1) == share
