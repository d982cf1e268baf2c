"""A plain fine-tuning step of Stable Video Diffusion over ours.

Theirs: diffusers' UNet with its gradient checkpointing, autoencoder and image encoder run on every batch, AdamW and
Accelerate. Ours: the trainer on cached latents, without checkpointing (ratio), and with the finest grid's or all layers
checkpointed (`finest`, `layers`); `kept` are the GiB that each keeps for the backward pass. Small models of SVD's
classes, with channels that double from level to level as SVD's do; the encoders' share of a forward's FLOPs
(`encoders`) is that of 14 x 256 x 256, where it is 1. Building the cache is counted: 25,000 frames once, each with its
own image token, for the reference recipe's 4,000 + 3,000 steps of 4 clips, which share it. Guard: the same loss on
held-out clips after the same steps.
"""

from __future__ import annotations

import copy
import statistics

import torch
from accelerate import Accelerator
from diffusers import AutoencoderKLTemporalDecoder, UNetSpatioTemporalConditionModel
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from benchmarks import policies
from benchmarks.harness import PAIRS, clock, report
from benchmarks.steps import InMemory, seconds_of_steps
from vidpara.config import DiffusionConfig, OptimizerConfig, TrainerConfig
from vidpara.models.activations import activations
from vidpara.models.autoencoder import SVDAutoencoder
from vidpara.models.checkpointing import checkpoint_layers
from vidpara.models.cross_attention import use_single_token
from vidpara.models.image_encoder import CLIPContext
from vidpara.models.svd import VideoModel
from vidpara.training.optimizer import ParamGroup
from vidpara.training.processes import on_cpu
from vidpara.training.sampler import seed_step
from vidpara.types import Batch

FRAMES, SIZE, BATCH, STEPS = 7, 192, 1, 3
WIDTHS, VAE_WIDTHS, VISION_LAYERS = (64, 128, 256, 256), (32, 64, 160, 160), 8
KINDS = ("none", "finest", "layers")
CACHED_FRAMES, RUN_CLIPS = 25_000, 4 * (4_000 + 3_000)
"""The rollouts of the whole table, and the clips of configs/reference/ on one GPU."""
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
            hidden_size=256, intermediate_size=1024, num_hidden_layers=VISION_LAYERS, num_attention_heads=4,
            projection_dim=1024, patch_size=14, image_size=224,
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
    prepare(unet, "theirs")
    model = video_model(unet, encoders).train()
    accelerator = Accelerator(cpu=on_cpu())
    optimizer = torch.optim.AdamW(
        model.parameters(), OPTIMIZER.lr, OPTIMIZER.betas, weight_decay=OPTIMIZER.weight_decay
    )
    model, optimizer = accelerator.prepare(model, optimizer)
    blank, seconds = policies.batch(policies.settings(), len(frames)), []
    for step in range(TRAINER.steps):
        began = clock()
        with torch.no_grad():
            latents, context = encoders(frames)
        seed_step(TRAINER, 0, step, 0)
        loss = model(blank._replace(latents=latents, context=context))["video"]
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(model.parameters(), OPTIMIZER.clip_norm)
        optimizer.step()
        optimizer.zero_grad()
        loss.item()
        seconds.append(clock() - began)
    return seconds[1:]


def prepare(unet: UNetSpatioTemporalConditionModel, kind: str) -> None:
    """Make it ours, with this checkpointing, or theirs."""
    if kind == "theirs":
        unet.enable_gradient_checkpointing()
        return
    use_single_token(unet)
    if kind == "finest" or kind == "layers":
        checkpoint_layers(unet, kind)


def kept(unet: UNetSpatioTemporalConditionModel, batch: Batch, encoders: Encoders, kind: str) -> float:
    """GiB that a forward keeps for the backward pass."""
    unet = copy.deepcopy(unet)
    prepare(unet, kind)
    model = video_model(unet, encoders).train()
    return activations(model, lambda: model(batch)).bytes / 2**30


def ours(unet: UNetSpatioTemporalConditionModel, batch: Batch, encoders: Encoders, kind: str) -> list[float]:
    """Seconds of each of our steps; trains `unet`."""
    prepare(unet, kind)
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
    memory = {kind: kept(first, batch, encoders, kind) for kind in ("theirs", *KINDS)}
    plain, cached, apart = [], {kind: [] for kind in KINDS}, []
    for round_ in range(PAIRS + 1):
        unets = {kind: copy.deepcopy(first) for kind in memory}
        spent = {"theirs": statistics.median(theirs(unets["theirs"], frames, encoders))}
        for kind in KINDS:
            spent[kind] = statistics.median(ours(unets[kind], batch, encoders, kind))
        losses = {kind: held_out_loss(unet, held_out, encoders) for kind, unet in unets.items()}
        apart += [abs(losses[kind] / losses["theirs"] - 1) for kind in KINDS]
        began = clock()
        with torch.no_grad():
            encoders.autoencoder.encode(frames.flatten(0, 1))
            encoders.image_encoder(frames.flatten(0, 1))
        cache = (clock() - began) / FRAMES * CACHED_FRAMES / RUN_CLIPS
        if round_:
            plain.append(spent["theirs"])
            for kind, into in cached.items():
                into.append(spent[kind] + cache)
    ratios = {
        kind: statistics.median(x / y for x, y in zip(plain, cached[kind], strict=True)) for kind in KINDS
    }
    report(
        "train_step", plain, cached["none"], "s a step",
        max(apart) < SAME, 1.5,
        **{kind: round(ratios[kind], 2) for kind in KINDS[1:]},
        kept={kind: round(value, 2) for kind, value in memory.items()},
        encoders=round(share, 2), losses_apart=float(f"{max(apart):.1g}"),
    )  # fmt: skip
