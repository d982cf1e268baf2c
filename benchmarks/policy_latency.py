"""The policy's whole look (image in, action chunk out) over a bare forward of the UNet to its last tap."""

from __future__ import annotations

import torch

from benchmarks import policies
from benchmarks.harness import interleaved, report

LOOKS, PAIRS = 2, 25
"""Short turns, so that a machine whose speed changes is as fast for both."""

if __name__ == "__main__":
    torch.manual_seed(0)
    config = policies.settings()
    policy, seen = policies.policy(config).eval(), policies.observation()
    clip = torch.zeros(1, config.data.clip.frames, config.autoencoder.channels, 16, 16)
    bare = (
        clip,
        torch.tensor([config.policy.sigma]),
        clip[:, 0],
        torch.zeros(1, 1, config.unet.context_dim),
        torch.zeros(1),
    )

    def look() -> None:
        for _ in range(LOOKS):
            policy.act(seen)

    def forward() -> None:
        for _ in range(LOOKS):
            policy.backbone.predict(*bare, taps=config.policy.taps, output=False)

    with torch.inference_mode():
        again = torch.equal(policy.act(seen).position, policy.act(seen).position)
        report(
            "policy_latency",
            *interleaved(look, forward, PAIRS),
            f"s for {LOOKS} looks",
            again,
            1.10,
            at_least=False,
        )
