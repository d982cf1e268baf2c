"""Groups of settings, by full name: those that say how and not what, and those that both stages must share."""

from __future__ import annotations

HOW = frozenset({
    "run", "output", "cell", "workers", "videos", "failures", "samples", "sample_steps", "plan", "data.cache",
    "data.store", "trainer.workers", "trainer.log_every", "trainer.validate_every", "trainer.checkpoint_every",
    "trainer.checkpoints", "trainer.keep_checkpoints", "trainer.wandb", "trainer.project", "hub.push", "hub.private",
    "unet.checkpointing", "unet.compile", "unet.channels_last",
})  # fmt: skip
"""Where and how a stage runs and what it shows. A command that goes on with what another one began may give others, and
an experiment takes a step for the same one whatever they are."""

RETIRED = frozenset({"policy.head.loss"})
"""Settings that earlier versions had and that made no difference: where a run's own file still has one, it is passed
over."""

SEEN = (
    "data.clip.frames", "data.clip.stride", "data.fps", "autoencoder.kind", "image_encoder.kind",
    "diffusion.sigma_max", "diffusion.fps", "diffusion.motion_bucket",
)  # fmt: skip
"""How the UNet sees a clip: a policy that starts from a stage-one run must have the same."""

BUILT = (
    "trainer.seed", "unet.channels", "unet.layers_per_block", "unet.attention", "unet.heads", "autoencoder.patch",
    "autoencoder.channels",
)  # fmt: skip
"""What the weights are, which a policy that starts from a stage-one run takes over with them."""

SHOWN = (
    "data.rollouts", "data.weights", "data.tasks", "data.camera", "data.cameras", "data.size", "data.decoder",
    "data.on_error", "data.validation_demos",
)  # fmt: skip
"""Which images there are, and of which demos: an experiment's stage one sees those of its policies."""
