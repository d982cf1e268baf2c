"""Settings that are numbers, and what they may be: checked wherever a configuration is read."""

from __future__ import annotations

BOUNDS: dict[str, tuple[float, float | None]] = {
    "data.clip.frames": (2, None), "data.clip.stride": (1, None), "data.demos": (0, None),
    "data.validation_clips": (1, None), "data.shift": (0, None),
    "autoencoder.patch": (1, None), "autoencoder.channels": (1, None),
    "unet.channels": (1, None), "unet.layers_per_block": (1, None), "unet.heads": (1, None),
    "unet.context_dim": (1, None), "unet.added_id_dim": (1, None), "unet.lora": (0, None),
    "vit.patch": (1, None), "vit.width": (1, None), "vit.layers": (1, None), "vit.heads": (1, None),
    "vit.registers": (0, None),
    "diffusion.blank": (0, 1),
    "policy.action_fraction": (0, 1), "policy.blank": (0, 1),
    "policy.head.grid": (1, None), "policy.head.height_bins": (1, None), "policy.head.gripper_bins": (1, None),
    "policy.head.rotation_bins": (1, None), "policy.head.width": (1, None), "policy.head.layers": (0, None),
    "policy.head.act.width": (1, None), "policy.head.act.feedforward": (1, None), "policy.head.act.heads": (1, None),
    "policy.head.act.latent": (1, None), "policy.head.act.dropout": (0, 1),
    "trainer.batch_size": (1, None), "trainer.accumulate": (1, None), "trainer.ema": (0, 1),
    "trainer.workers": (0, None), "samples": (0, None), "sample_steps": (1, None),
    "optimizer.warmup": (0, None),
    "controller.execute": (1, None), "controller.steps_per_point": (1, None),
    "controller.max_steps_per_point": (1, None), "controller.tolerance": (0, None), "controller.stall": (0, None),
    "scene.grid": (1, None), "scene.view_grid": (1, None), "scene.image_size": (1, None),
    "scene.distractors": (0, None), "max_steps": (1, None), "camera_error": (0, None),
}  # fmt: skip
"""{key: (least, most)}, of every number of a list; None is no limit."""
