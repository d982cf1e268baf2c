"""Latents and back."""

from __future__ import annotations

import pytest
import torch
from diffusers import AutoencoderKLTemporalDecoder
from safetensors.torch import save_file

from vidpara.cli import UserError
from vidpara.config import AutoencoderConfig
from vidpara.models.autoencoder import PatchPCA, SVDAutoencoder


def smooth(count: int = 16) -> torch.Tensor:
    return (
        torch.nn.functional.interpolate(torch.rand(count, 3, 8, 8), (32, 32), mode="bicubic").clamp(0, 1) * 2
        - 1
    )


def test_all_components_lose_nothing():
    frames = smooth()
    pca = PatchPCA.fit(frames, AutoencoderConfig(patch=4, channels=48))
    torch.testing.assert_close(pca.decode(pca.encode(frames)[None])[0], frames, atol=2e-4, rtol=0)


def test_components_have_unit_variance_and_keep_the_variance_of_their_eigenvalues():
    frames = smooth(64)
    pca = PatchPCA.fit(frames, AutoencoderConfig(patch=4, channels=6))
    latents = pca.encode(frames)
    torch.testing.assert_close(latents.var(dim=(0, 2, 3)), torch.ones(6), atol=0.02, rtol=0)
    patches = frames.unfold(2, 4, 4).unfold(3, 4, 4).permute(0, 2, 3, 4, 5, 1).reshape(-1, 48).double()
    values = torch.linalg.eigvalsh(torch.cov(patches.T))
    lost = (pca.decode(latents[None])[0] - frames).var() / frames.var()
    assert 1 - float(lost) == pytest.approx(float(values[-6:].sum() / values.sum()), abs=0.02)


def test_components_have_one_sign_whatever_the_eigenvectors_are(monkeypatch):
    """A resumed run fits them anew, perhaps with other threads or on another machine."""
    frames, config = smooth(), AutoencoderConfig(patch=4, channels=6)
    ours, eigh = PatchPCA.fit(frames, config), torch.linalg.eigh
    monkeypatch.setattr(torch.linalg, "eigh", lambda matrix: [eigh(matrix)[0], -eigh(matrix)[1]])
    assert torch.equal(PatchPCA.fit(frames, config).basis, ours.basis)
    assert (ours.basis.abs().amax(0) == ours.basis.amax(0)).all()


def test_a_saved_autoencoder_is_the_same(tmp_path):
    frames = smooth()
    pca = PatchPCA.fit(frames, AutoencoderConfig(patch=8, channels=12))
    pca.save(tmp_path)
    assert torch.equal(PatchPCA.load(tmp_path).encode(frames), pca.encode(frames))


def test_a_saved_autoencoder_that_is_incomplete_is_named(tmp_path):
    with pytest.raises(UserError, match="no patch autoencoder at"):
        PatchPCA.load(tmp_path)
    PatchPCA.fit(smooth(), AutoencoderConfig(patch=8, channels=12)).save(tmp_path)
    file = tmp_path / "patch_pca.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[:200])
    with pytest.raises(UserError, match=r"patch_pca\.safetensors is damaged or incomplete .*again"):
        PatchPCA.load(tmp_path)
    save_file({"basis": torch.zeros(192, 12)}, file)
    with pytest.raises(UserError, match="has basis; a patch autoencoder has basis, mean and scale"):
        PatchPCA.load(tmp_path)


def test_a_patch_that_does_not_divide_the_image_is_named():
    with pytest.raises(UserError, match=r"autoencoder.patch 5 does not divide the image of 32 x 32"):
        PatchPCA.fit(smooth(), AutoencoderConfig(patch=5, channels=4))


def test_svds_vae_gives_scaled_latents_and_unscaled_conditioning():
    vae = AutoencoderKLTemporalDecoder(
        block_out_channels=(32, 32),
        down_block_types=("DownEncoderBlock2D",) * 2,
        layers_per_block=1,
        sample_size=32,
    )
    autoencoder = SVDAutoencoder(vae)
    frames = smooth(7)
    latents = autoencoder.encode(frames)
    assert latents.shape == (7, 4, 16, 16) and autoencoder.factor == 2
    torch.testing.assert_close(latents * autoencoder.condition_scale, vae.encode(frames).latent_dist.mode())
    assert autoencoder.decode(latents[None]).shape == (1, 7, 3, 32, 32)
    with pytest.raises(
        UserError, match=r"images of 31 x 32 .* cells of 2 x 2 pixels; set --data\.size 32 32"
    ):
        autoencoder.encode(frames[:, :, 1:])


def test_an_autoencoder_saved_in_half_precision_encodes_float_frames(tmp_path):
    frames = smooth()
    pca = PatchPCA.fit(frames, AutoencoderConfig(patch=8, channels=12))
    expected = pca.encode(frames)
    pca.half().save(tmp_path)
    torch.testing.assert_close(PatchPCA.load(tmp_path).encode(frames), expected, atol=0.05, rtol=0.01)
