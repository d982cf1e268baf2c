"""Closed loop in the simulator: every start once, MISS / GRASP / PLACE, results as JSON, videos on request.

python stages/evaluate_policy.py configs/evaluation/grid.yaml --policy runs/policy --output runs/grid.json

The same command goes on where a stopped one ended, and adds videos to a finished one.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from vidpara import cli
from vidpara.build_data import build_clips
from vidpara.config import DataConfig, EvaluateConfig
from vidpara.data.rollouts import CONTROL_RATE
from vidpara.data.sources import read_sources
from vidpara.data.team import Alone
from vidpara.evaluation import protocol, results
from vidpara.evaluation.evaluators import ActionErrors
from vidpara.policy import Policy
from vidpara.run_config import read_config
from vidpara.run_folder import load_policy, read_workspace


def main(config: EvaluateConfig, words: list[str]) -> None:
    """Evaluate and print one line."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    policy = load_policy(config.policy, config.denoising_steps).to(device)
    if config.controller.rotation == "predicted" and not policy.turns:
        raise cli.UserError(
            f"controller.rotation predicted, but {config.policy} was trained without a rotation loss: leave it at "
            "zero, or train with --loss.rotation 1"
        )
    for difference in differences(
        config, read_config(config.policy).data, read_workspace(config.policy).rate
    ):
        print(f"note: {difference}", file=sys.stderr)
    if config.precision == "bf16":
        policy.halve()
    if config.cuda_graph:
        policy.replay()
    errors = held_out_errors(config.policy, policy, device) if config.held_out else {}
    found = protocol.evaluate(policy, device, results.fingerprint(policy), config, words, measured=errors)
    print(f"{results.summary(found)} -> {config.output}")


def differences(config: EvaluateConfig, trained: DataConfig, rate: float) -> Iterator[str]:
    """What this evaluation does unlike the policy's training, on episodes of `rate` moments a second, and may be meant
    so.
    """
    apart, steps = trained.clip.stride * CONTROL_RATE / rate, config.controller.steps_per_point
    if not math.isclose(apart, steps, rel_tol=0.02):  # cameras' clocks are not exact
        yield (
            f"the policy's points are {apart:.3g} control steps apart (data.clip.stride, on {rate:.3g} moments a "
            f"second), controller.steps_per_point is {steps}: the hand moves {apart / steps:.2g} times as fast as in "
            "the demonstrations"
        )
    if isinstance(trained.camera, str) and trained.camera != config.scene.camera:
        yield f"the policy was trained on camera {trained.camera}, scene.camera is {config.scene.camera}"


def held_out_errors(run: Path, policy: Policy, device: torch.device) -> dict[str, float]:
    """The plan's errors on the demos that were held out from the policy's training."""
    data = read_config(run).data
    episodes = read_sources(data)
    _, held_out = build_clips(data, episodes, policy.autoencoder, policy.image_encoder, Alone(device=device))
    return dict(ActionErrors(held_out)(policy, 0))


if __name__ == "__main__":
    cli.main(EvaluateConfig, main)
