"""What a run was trained with, for those who do not need its weights: this imports no model."""

from __future__ import annotations

from pathlib import Path

from vidpara import cli
from vidpara.config import TrainPolicyConfig


def read_config(run: Path) -> TrainPolicyConfig:
    """The configuration that a stage-two run was trained with."""
    return cli.load(TrainPolicyConfig, [str(run / "config.yaml")])
