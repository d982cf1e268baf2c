"""Clips to latents and back: SVD's VAE, or a closed-form linear patch autoencoder.

`factor` is pixels per latent cell; `condition_scale` turns latents into the UNet's conditioning channels. Both map
frames `n 3 h w` in [-1, 1] to latents `n c h/8 w/8` of about unit variance, which is what sigma_data = 1 in the
diffusion assumes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers import AutoencoderKLTemporalDecoder
from einops import rearrange
from safetensors.torch import save_file
from torch import nn

from vidpara.cli import UserError
from vidpara.config import AutoencoderConfig
from vidpara.models.weight_files import read_tensors
from vidpara.types import Float, Tensor

AT_ONCE = 8
"""Frames that SVD's autoencoder encodes together; 64 of 320 x 576 would take tens of GiB."""


class PatchPCA(nn.Module):
    """Principal components of image patches, each scaled to unit variance.

    Encoding and decoding are one matrix product; the parts of a patch outside the kept components are lost.
    """

    condition_scale = 1.0

    def __init__(
        self, basis: Float[Tensor, "d c"], mean: Float[Tensor, "d"], scale: Float[Tensor, "c"]
    ) -> None:
        super().__init__()
        self.register_buffer("basis", basis)
        self.register_buffer("mean", mean)
        self.register_buffer("scale", scale)
        self.factor = round((basis.shape[0] / 3) ** 0.5)
        self.channels = basis.shape[1]

    @classmethod
    def fit(cls, frames: Float[Tensor, "n 3 h w"], config: AutoencoderConfig) -> PatchPCA:
        """Closed form: the leading eigenvectors of the patches' covariance, each with its largest entry positive.

        Raises:
            UserError: the patch does not divide the image, or has fewer values than components.
        """
        rows, columns = frames.shape[-2:]
        if rows % config.patch or columns % config.patch:
            raise UserError(
                f"autoencoder.patch {config.patch} does not divide the image of {rows} x {columns}; "
                "choose a divisor or another image size"
            )
        if config.channels > 3 * config.patch**2:
            raise UserError(
                f"autoencoder.channels {config.channels} exceeds the {3 * config.patch**2} values of a patch"
            )
        patches = _patches(frames, config.patch).flatten(0, -2).double()
        mean = patches.mean(0)
        values, vectors = torch.linalg.eigh(torch.cov((patches - mean).T))
        leading = values.argsort(descending=True)[: config.channels]
        basis = vectors[:, leading]
        largest = basis.gather(0, basis.abs().argmax(0, keepdim=True))
        scale = values[leading].clamp_min(1e-8).sqrt()
        return cls((basis * largest.sign()).float().contiguous(), mean.float(), scale.float())

    def encode(self, frames: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n c h8 w8"]:
        check_size(frames.shape[-2:], self.factor)
        coefficients = (_patches(frames, self.factor) - self.mean) @ self.basis / self.scale
        return rearrange(coefficients, "n h w c -> n c h w")

    def decode(self, latents: Float[Tensor, "b t c h8 w8"]) -> Float[Tensor, "b t 3 h w"]:
        patches = (rearrange(latents, "b t c h w -> b t h w c") * self.scale) @ self.basis.T + self.mean
        frames = rearrange(
            patches, "b t h w (p q rgb) -> b t rgb (h p) (w q)", p=self.factor, q=self.factor, rgb=3
        )
        return frames.clamp(-1, 1)

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps({"_class_name": "PatchPCA"}))
        save_file({k: v.contiguous() for k, v in self.state_dict().items()}, folder / "patch_pca.safetensors")

    @classmethod
    def load(cls, folder: Path) -> PatchPCA:
        path = folder / "patch_pca.safetensors"
        if not path.is_file():
            raise UserError(
                f"no patch autoencoder at {path}; point --autoencoder.weights at a run's autoencoder folder"
            )
        tensors = read_tensors(path)
        if set(tensors) != {"basis", "mean", "scale"}:
            raise UserError(
                f"{path} has {', '.join(sorted(tensors))}; a patch autoencoder has basis, mean and scale. "
                "Point --autoencoder.weights at a run's autoencoder folder"
            )
        return cls(**{name: tensor.float() for name, tensor in tensors.items()})


class SVDAutoencoder(nn.Module):
    """diffusers' AutoencoderKLTemporalDecoder; the latent is the posterior's mode times the scaling factor."""

    channels: int

    def __init__(self, vae: AutoencoderKLTemporalDecoder) -> None:
        super().__init__()
        self.vae = vae.eval().requires_grad_(False)
        self.channels = vae.config.latent_channels
        self.factor = 2 ** (len(vae.config.block_out_channels) - 1)
        self.condition_scale = 1.0 / vae.config.scaling_factor

    @torch.no_grad()
    def encode(self, frames: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n c h8 w8"]:
        check_size(frames.shape[-2:], self.factor)
        parts = [self.vae.encode(chunk).latent_dist.mode() for chunk in frames.split(AT_ONCE)]
        return torch.cat(parts) * self.vae.config.scaling_factor

    @torch.no_grad()
    def decode(self, latents: Float[Tensor, "b t c h8 w8"]) -> Float[Tensor, "b t 3 h w"]:
        clips = latents / self.vae.config.scaling_factor
        return torch.stack([self.vae.decode(clip, num_frames=len(clip)).sample for clip in clips]).clamp(
            -1, 1
        )

    def save(self, folder: Path) -> None:
        self.vae.save_pretrained(folder)


class Pixels(nn.Module):
    """No compression: the latents are the image. For image models, so that they read the same cached frames."""

    channels = 3
    factor = 1
    condition_scale = 1.0

    def encode(self, frames: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 h w"]:
        return frames

    def decode(self, latents: Float[Tensor, "b t 3 h w"]) -> Float[Tensor, "b t 3 h w"]:
        return latents

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps({"_class_name": "Pixels"}))


Autoencoder = PatchPCA | SVDAutoencoder | Pixels


def check_size(size: Sequence[int], factor: int) -> None:
    """Whole latent cells only: of a rest at the edge the autoencoder would see nothing, and pixels would be shifted.

    Raises:
        UserError: the image's rows or columns are no multiple of `factor`.
    """
    rows, columns = size
    if rows % factor or columns % factor:
        nearest = " ".join(str(max(1, round(side / factor)) * factor) for side in (rows, columns))
        raise UserError(
            f"images of {rows} x {columns} are not of whole latent cells of {factor} x {factor} pixels; set "
            f"--data.size {nearest}"
        )


def _patches(frames: Float[Tensor, "n 3 h w"], patch: int) -> Float[Tensor, "n h8 w8 d"]:
    return rearrange(frames, "n rgb (h p) (w q) -> n h w (p q rgb)", p=patch, q=patch)
