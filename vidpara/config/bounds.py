"""Settings that are numbers, and what they may be: checked wherever a configuration is read."""

from __future__ import annotations

NEARLY_1 = 0.999999
"""Of decays, which at 1 never take anything in."""
BOUNDS: dict[str, tuple[float, float | None]] = {
    "data.clip.frames": (2, None), "data.clip.stride": (1, None), "data.demos": (0, None),
    "data.validation_clips": (1, None), "data.shift": (0, None),
    "data.lerobot.position_at": (0, None), "data.lerobot.rotation_at": (0, None),
    "data.lerobot.opening_at": (0, None), "data.lerobot.gripper_at": (0, None),
    "autoencoder.patch": (1, None), "autoencoder.channels": (1, None),
    "unet.channels": (1, None), "unet.layers_per_block": (1, None), "unet.heads": (1, None),
    "unet.context_dim": (1, None), "unet.added_id_dim": (1, None), "unet.lora": (0, None),
    "vit.patch": (1, None), "vit.width": (1, None), "vit.layers": (1, None), "vit.heads": (1, None),
    "vit.registers": (0, None),
    "diffusion.blank": (0, 1), "diffusion.log_sigma_std": (0, None), "diffusion.sigma_max": (0.002, None),
    "diffusion.condition_noise_std": (0, None),
    "policy.action_fraction": (0, 1), "policy.blank": (0, 1), "policy.sigma": (0.002, None),
    "policy.head.grid": (1, None), "policy.head.height_bins": (1, None), "policy.head.gripper_bins": (1, None),
    "policy.head.rotation_bins": (1, None), "policy.head.width": (1, None), "policy.head.layers": (0, None),
    "policy.head.act.width": (1, None), "policy.head.act.feedforward": (1, None), "policy.head.act.heads": (1, None),
    "policy.head.act.latent": (1, None), "policy.head.act.dropout": (0, 1),
    "policy.head.act.style_layers": (1, None), "policy.head.act.encoder_layers": (1, None),
    "policy.head.act.decoder_layers": (1, None), "policy.head.state_noise": (0, None),
    "loss.volume": (0, None), "loss.position": (0, None), "loss.kl": (0, None), "loss.gripper": (0, None),
    "loss.rotation": (0, None), "loss.video": (0, None), "loss.decay": (0, NEARLY_1),
    "trainer.steps": (1, None), "trainer.log_every": (0, None), "trainer.validate_every": (0, None),
    "trainer.checkpoint_every": (0, None), "trainer.keep_checkpoints": (1, None),
    "trainer.batch_size": (1, None), "trainer.accumulate": (1, None), "trainer.ema": (0, NEARLY_1),
    "trainer.seed": (0, None),
    "trainer.workers": (0, None), "samples": (0, None), "sample_steps": (1, None),
    "optimizer.warmup": (0, None), "optimizer.lr": (0, None), "optimizer.backbone_lr": (0, None),
    "optimizer.weight_decay": (0, None), "optimizer.betas": (0, NEARLY_1), "optimizer.clip_norm": (0, None),
    "controller.execute": (1, None), "controller.steps_per_point": (1, None),
    "controller.max_steps_per_point": (1, None), "controller.tolerance": (0, None), "controller.stall": (0, None),
    "controller.gain": (0, None), "controller.ensemble": (0, None),
    "scene.grid": (1, None), "scene.view_grid": (1, None), "scene.image_size": (1, None),
    "scene.distractors": (0, None), "scene.task": (0, None), "scene.separation": (0, None),
    "scene.tilt_min": (0, 90), "scene.tilt_max": (0, 90),
    "expert.max_steps": (1, None), "expert.speed": (0.01, 1), "expert.recoveries": (0, 1),
    "max_steps": (1, None), "seed": (0, None), "camera_error": (0, None), "workers": (0, None), "videos": (0, None),
    "failures": (0, None), "demos": (0, None), "decode": (0, None), "replay": (0, None),
    "crf": (0, 51), "gop": (1, None), "size": (1, None),
}  # fmt: skip
"""{key: (least, most)}, of every number of a list; None is no limit."""
