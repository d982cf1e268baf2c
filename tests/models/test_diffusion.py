"""EDM maths against diffusers' EulerDiscreteScheduler, with SVD's settings."""

from __future__ import annotations

import pytest
import torch
from diffusers import EulerDiscreteScheduler

from vidpara.config import DiffusionConfig
from vidpara.models.diffusion import denoising_loss, noise_levels, precondition, sample_sigma, scheduler


def test_preconditioning_agrees_with_diffusers_input_scaling_and_v_prediction():
    sampler = scheduler(DiffusionConfig())
    sampler.set_timesteps(7)
    sample, output = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    for timestep, sigma in zip(sampler.timesteps, sampler.sigmas[:-1], strict=True):
        c = precondition(sigma)
        sampler._step_index = None
        torch.testing.assert_close(sampler.scale_model_input(sample, timestep), sample * c.input)
        sampler._step_index = None
        theirs = sampler.step(output, timestep, sample).pred_original_sample
        torch.testing.assert_close(theirs, c.skip * sample + c.out * output)
        torch.testing.assert_close(timestep, c.noise)


def test_the_scheduler_is_svds():
    svd = EulerDiscreteScheduler(
        prediction_type="v_prediction", timestep_type="continuous", use_karras_sigmas=True, sigma_min=0.002,
        sigma_max=700.0, timestep_spacing="leading", steps_offset=1,
    )  # fmt: skip
    ours = scheduler(DiffusionConfig())
    ours.set_timesteps(25)
    svd.set_timesteps(25)
    torch.testing.assert_close(ours.sigmas, svd.sigmas)


def test_the_loss_is_the_weighted_error_of_the_denoised_clip():
    clean, sigma = torch.randn(5, 3, 2, 4, 4).double(), torch.tensor([0.05, 0.7, 2.0, 20.0, 700.0]).double()
    level = sigma.view(-1, 1, 1, 1, 1)
    noisy, prediction = clean + level * torch.randn_like(clean), torch.randn_like(clean)
    c = precondition(level)
    denoised = c.skip * noisy + c.out * prediction
    weighted = ((1 + level**2) / level**2 * (denoised - clean) ** 2).mean((1, 2, 3, 4))
    torch.testing.assert_close(
        denoising_loss(prediction, noisy, clean, sigma), weighted, rtol=1e-5, atol=1e-6
    )


def test_a_perfect_network_has_no_loss():
    clean, sigma = torch.randn(2, 3, 2, 4, 4), torch.tensor([0.5, 5.0])
    level = sigma.view(-1, 1, 1, 1, 1)
    noisy = clean + level * torch.randn_like(clean)
    c = precondition(level)
    assert denoising_loss((clean - c.skip * noisy) / c.out, noisy, clean, sigma).max() < 1e-9


def test_training_noise_is_log_normal():
    torch.manual_seed(0)
    drawn = sample_sigma(
        20000, DiffusionConfig(log_sigma_mean=0.7, log_sigma_std=1.6), torch.device("cpu")
    ).log()
    assert drawn.mean().item() == pytest.approx(0.7, abs=0.05)
    assert drawn.std().item() == pytest.approx(1.6, abs=0.05)


def test_noise_levels_fall_from_the_top_to_where_the_head_reads():
    assert noise_levels(700.0, 2.0, 1).tolist() == [2.0]
    levels = noise_levels(700.0, 2.0, 4)
    assert len(levels) == 4 and (levels.diff() < 0).all()
    assert torch.allclose(levels[[0, -1]], torch.tensor([700.0, 2.0]))
