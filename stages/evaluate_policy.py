"""Closed loop in the simulator: every start once, MISS / GRASP / PLACE, results as JSON, videos on request.

python stages/evaluate_policy.py configs/evaluation/grid.yaml --policy runs/policy --output runs/grid.json

The same command goes on where a stopped one ended, and adds videos to a finished one.
"""

from __future__ import annotations

import torch

from vidpara import cli
from vidpara.build import load_policy
from vidpara.config import EvaluateConfig
from vidpara.evaluation import protocol, results


def main(config: EvaluateConfig, words: list[str]) -> None:
    """Evaluate and print one line."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    policy = load_policy(config.policy).to(device)
    found = protocol.evaluate(policy, device, results.fingerprint(policy), config, words)
    print(f"{results.summary(found)} -> {config.output}")


if __name__ == "__main__":
    cli.main(EvaluateConfig, main)
