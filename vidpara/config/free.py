"""Which settings say where and how a stage runs and what it shows, and do not change what it computes."""

HOW = frozenset({
    "run", "output", "cell", "workers", "videos", "failures", "samples", "sample_steps", "plan", "data.cache",
    "data.store", "trainer.workers", "trainer.log_every", "trainer.validate_every", "trainer.checkpoint_every",
    "trainer.checkpoints", "trainer.keep_checkpoints", "trainer.wandb", "trainer.project", "hub.push", "hub.private",
    "unet.checkpointing", "unet.compile", "unet.channels_last",
})  # fmt: skip
"""Of every stage, by full name. A command that goes on with what another one began may give others, and an experiment
takes a step for the same one whatever they are."""
