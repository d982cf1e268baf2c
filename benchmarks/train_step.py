"""A plain fine-tuning step of Stable Video Diffusion over ours.

Theirs: diffusers' UNet with its gradient checkpointing, autoencoder and image encoder run on every batch, AdamW and
Accelerate. Ours: the trainer on cached latents, with our checkpointing (ratio) and with none (`without`). Small models
of SVD's classes; the encoders' share of a forward's FLOPs is about that at 14 x 256 x 256, where it is 1 (`encoders`).
Building the cache is counted: 25,000 frames once in a run of 4,000 steps. Guard: the same loss on held-out clips after
the same steps.
"""

from __future__ import annotations

import copy
import statistics
import time

import torch
from accelerate import Accelerator
from diffusers import AutoencoderKLTemporalDecoder, UNetSpatioTemporalConditionModel
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from benchmarks import policies
from benchmarks.harness import PAIRS, report
from benchmarks.steps import InMemory, seconds_of_steps
from vidpara.config import DiffusionConfig, OptimizerConfig, TrainerConfig
from vidpara.models.autoencoder import SVDAutoencoder
from vidpara.models.checkpointing import checkpoint_layers
from vidpara.models.cross_attention import use_single_token
from vidpara.models.image_encoder import CLIPContext
from vidpara.models.svd import VideoModel
from vidpara.training.optimizer import ParamGroup
from vidpara.training.processes import on_cpu
from vidpara.training.sampler import seed_step
from vidpara.types import Batch

FRAMES, SIZE, BATCH, STEPS = 7, 128, 1, 3
WIDTHS, VAE_WIDTHS = (64, 128, 256, 256), (32, 64, 128, 128)
CACHED_FRAMES, RUN_STEPS = 25_000, 4_000
SAME = 0.01
"""Relative difference of the held-out losses that half-precision latents and the order of sums may make."""
TRAINER = TrainerConfig(
    steps=STEPS + 1, batch_size=BATCH, ema=0.0, log_every=1, validate_every=0, checkpoint_every=0, wandb="disabled",
    precision="no",
)  # fmt: skip
OPTIMIZER = OptimizerConfig(lr=1e-4, warmup=0, decay="constant")


class Encoders(nn.Module):
    """SVD's autoencoder and image encoder."""

    def __init__(self) -> None:
        super().__init__()
        blocks = ("DownEncoderBlock2D",) * 4
        vae = AutoencoderKLTemporalDecoder(block_out_channels=VAE_WIDTHS, down_block_types=blocks)
        vision = CLIPVisionConfig(
            hidden_size=256, intermediate_size=1024, num_hidden_layers=6, num_attention_heads=4, projection_dim=1024,
            patch_size=14, image_size=224,
        )  # fmt: skip
        self.autoencoder, self.image_encoder = (
            SVDAutoencoder(vae),
            CLIPContext(CLIPVisionModelWithProjection(vision)),
        )

    def forward(self, frames: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Latents `b t c h/8 w/8` and context tokens `b 1 d` of clips `b t 3 h w`."""
        latents = self.autoencoder.encode(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])
        return latents, self.image_encoder(frames[:, 0])


def video_model(unet: UNetSpatioTemporalConditionModel, encoders: Encoders) -> VideoModel:
    return VideoModel(unet, DiffusionConfig(), encoders.autoencoder.condition_scale)


def clips(frames: torch.Tensor, encoders: Encoders) -> Batch:
    """A batch as our loader gives it: latents from the cache, in half precision."""
    latents, context = (x.half().float() for x in encoders(frames))
    blank = policies.batch(policies.settings(), len(frames))
    return blank._replace(latents=latents, context=context)


def theirs(unet: UNetSpatioTemporalConditionModel, frames: torch.Tensor, encoders: Encoders) -> list[float]:
    """Seconds of each plain step; trains `unet`."""
    model = video_model(unet, encoders).train()
    unet.enable_gradient_checkpointing()
    accelerator = Accelerator(cpu=on_cpu())
    optimizer = torch.optim.AdamW(
        model.parameters(), OPTIMIZER.lr, OPTIMIZER.betas, weight_decay=OPTIMIZER.weight_decay
    )
    model, optimizer = accelerator.prepare(model, optimizer)
    blank, seconds = policies.batch(policies.settings(), len(frames)), []
    for step in range(TRAINER.steps):
        began = time.perf_counter()
        with torch.no_grad():
            latents, context = encoders(frames)
        seed_step(TRAINER, 0, step, 0)
        loss = model(blank._replace(latents=latents, context=context))["video"]
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(model.parameters(), OPTIMIZER.clip_norm)
        optimizer.step()
        optimizer.zero_grad()
        loss.item()
        seconds.append(time.perf_counter() - began)
    return seconds[1:]


def ours(
    unet: UNetSpatioTemporalConditionModel, batch: Batch, encoders: Encoders, checkpointing: bool
) -> list[float]:
    """Seconds of each of our steps; trains `unet`."""
    use_single_token(unet)
    if checkpointing:
        checkpoint_layers(unet)
    model = video_model(unet, encoders).train()
    groups = [ParamGroup("video", list(model.parameters()), OPTIMIZER.lr, hidden=True)]
    return seconds_of_steps(model, InMemory(batch, BATCH), TRAINER, OPTIMIZER, {"video": 1.0}, groups)


@torch.no_grad()
def held_out_loss(unet: UNetSpatioTemporalConditionModel, batch: Batch, encoders: Encoders) -> float:
    torch.manual_seed(7)
    return float(video_model(unet, encoders).eval()(batch)["video"])


def teraflops(run) -> float:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops() / 1e12


if __name__ == "__main__":
    torch.manual_seed(0)
    encoders = Encoders().eval()
    first = UNetSpatioTemporalConditionModel(block_out_channels=WIDTHS, num_attention_heads=(4, 8, 16, 16))
    frames, unseen = torch.rand(2, BATCH, FRAMES, 3, SIZE, SIZE) * 2 - 1
    batch, held_out = clips(frames, encoders), clips(unseen, encoders)
    share = teraflops(lambda: encoders(frames)) / teraflops(lambda: held_out_loss(first, batch, encoders))
    plain, cached, light = [], [], []
    apart = []
    for round_ in range(PAIRS + 1):
        unets = [copy.deepcopy(first) for _ in range(3)]
        spent = (
            statistics.median(theirs(unets[0], frames, encoders)),
            statistics.median(ours(unets[1], batch, encoders, checkpointing=False)),
            statistics.median(ours(unets[2], batch, encoders, checkpointing=True)),
        )
        losses = [held_out_loss(unet, held_out, encoders) for unet in unets]
        apart += [abs(loss / losses[0] - 1) for loss in losses[1:]]
        began = time.perf_counter()
        with torch.no_grad():
            encoders(frames)
        cache = (time.perf_counter() - began) / FRAMES / BATCH * CACHED_FRAMES / RUN_STEPS
        if round_:
            for value, into in zip(spent, (plain, cached, light), strict=True):
                into.append(value)
            cached[-1] += cache
            light[-1] += cache
    without = statistics.median(x / y for x, y in zip(plain, cached, strict=True))
    report(
        "train_step", plain, light, "s a step", max(apart) < SAME, 1.5, without=round(without, 2),
        encoders=round(share, 2), losses_apart=float(f"{max(apart):.1g}"),
    )  # fmt: skip
