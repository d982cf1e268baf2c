"""EDM diffusion with v-prediction, as Stable Video Diffusion uses it.

Karras et al. 2022 (EDM, table 1) with sigma_data = 1; Blattmann et al. 2023 (SVD, appendix D). The network predicts
F, the denoised clip is D = c_skip x + c_out F.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from diffusers import EulerDiscreteScheduler

from vidpara.config import DiffusionConfig
from vidpara.types import Float, Tensor

SIGMA_MIN = 0.002


class Preconditioning(NamedTuple):
    """The four EDM coefficients at a noise level; `noise` is the network's time input, ln(sigma) / 4."""

    skip: Float[Tensor, "*b"]
    out: Float[Tensor, "*b"]
    input: Float[Tensor, "*b"]
    noise: Float[Tensor, "*b"]


def precondition(sigma: Float[Tensor, "*b"]) -> Preconditioning:
    """Coefficients of v-prediction: c_skip = 1/(s²+1), c_out = -s/√(s²+1), c_in = 1/√(s²+1), c_noise = ln(s)/4."""
    norm = (sigma.square() + 1).rsqrt()
    return Preconditioning(norm.square(), -sigma * norm, norm, sigma.log() / 4)


def sample_sigma(count: int, config: DiffusionConfig, device: torch.device) -> Float[Tensor, "b"]:
    """Training noise levels: log-normal (EDM, table 1, 'noise distribution')."""
    return torch.exp(config.log_sigma_mean + config.log_sigma_std * torch.randn(count, device=device))


def denoising_loss(
    prediction: Float[Tensor, "b t c h w"],
    noisy: Float[Tensor, "b t c h w"],
    clean: Float[Tensor, "b t c h w"],
    sigma: Float[Tensor, "b"],
) -> Float[Tensor, "b"]:
    """EDM loss of each clip: (1 + s²)/s² · |D - clean|², which is |F - target|² since the weight is 1/c_out²."""
    c = precondition(sigma.view(-1, 1, 1, 1, 1))
    target = (clean - c.skip * noisy) / c.out
    return (prediction.float() - target).square().mean(dim=(1, 2, 3, 4))


def noise_levels(top: float, last: float, count: int, rho: float = 7.0) -> Float[Tensor, "n"]:
    """The noise level of each of `count` forwards, from `top` to `last` (Karras et al. 2022, equation 5).

    A single forward is at `last`.
    """
    if count == 1:
        return torch.tensor([last])
    ramp = torch.linspace(0, 1, count, dtype=torch.float64)
    return ((top ** (1 / rho) + ramp * (last ** (1 / rho) - top ** (1 / rho))) ** rho).float()


def scheduler(config: DiffusionConfig) -> EulerDiscreteScheduler:
    """diffusers' sampler with SVD's settings: Karras noise levels from `sigma_max`, continuous time, v-prediction."""
    return EulerDiscreteScheduler(
        prediction_type="v_prediction",
        timestep_type="continuous",
        use_karras_sigmas=True,
        sigma_min=SIGMA_MIN,
        sigma_max=config.sigma_max,
    )
