"""At which noise a video policy's clips are seen in training."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from benchmarks import policies


@pytest.mark.parametrize(("blank", "least", "most"), [(0.0, 0, 0), (0.5, 1, 7), (1.0, 8, 8)])
def test_a_share_of_the_video_clips_is_seen_as_the_head_reads(
    monkeypatch: pytest.MonkeyPatch, blank: float, least: int, most: int
):
    config = policies.settings("--policy.blank", str(blank), "--unet.channels", "32", "32", "32")
    policy, count = policies.policy(config), 32
    acting = policy.acting(count)
    assert acting == 24
    seen: list[Tensor] = []
    predict = policy.backbone.predict

    def spied(noisy, sigma, present, context, augmentation, *rest):
        seen.extend((noisy, sigma, augmentation))
        return predict(noisy, sigma, present, context, augmentation, *rest)

    monkeypatch.setattr(policy.backbone, "predict", spied)
    losses = policy(policies.batch(config, count))
    noisy, sigma, augmentation = seen
    as_read = (sigma == config.policy.sigma) & (augmentation == 0) & (noisy.flatten(1) == 0).all(1)
    assert as_read[:acting].all()
    assert least <= int(as_read[acting:].sum()) <= most
    assert (noisy[~as_read].flatten(1).std(1) > 0.5).all() and (augmentation[~as_read] > 0).all()
    assert torch.isfinite(losses["video"])
