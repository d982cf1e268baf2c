"""The UNet's forward as a whole over the forward that ends at the last tap, at both taps; SVD's channels, small images.

Guard: the features are identical.
"""

from __future__ import annotations

import torch
from diffusers import UNetSpatioTemporalConditionModel

from benchmarks.harness import interleaved, report
from vidpara.config import DiffusionConfig
from vidpara.models.svd import VideoModel

FRAMES, ROWS, COLUMNS = 7, 16, 24
PAIRS = 15
WIDTHS = (64, 128, 256, 256)
"""A fifth of SVD's channels; all else as published."""

if __name__ == "__main__":
    torch.manual_seed(0)
    unet = UNetSpatioTemporalConditionModel(block_out_channels=WIDTHS, num_attention_heads=(4, 8, 16, 16))
    model = VideoModel(unet, DiffusionConfig()).eval()
    arguments = (
        torch.randn(1, FRAMES, 4, ROWS, COLUMNS), torch.tensor([700.0]), torch.randn(1, 4, ROWS, COLUMNS),
        torch.randn(1, 1, 1024), torch.zeros(1),
    )  # fmt: skip
    failed = []
    for tap, goal in ((1, 1.5), (2, 1.15)):
        with torch.no_grad():
            (_, whole), (_, early) = (
                model.predict(*arguments, taps=(tap,), output=output) for output in (True, False)
            )
            seconds = interleaved(
                lambda tap=tap: model.predict(*arguments, taps=(tap,)),
                lambda tap=tap: model.predict(*arguments, taps=(tap,), output=False),
                PAIRS,
            )
        assert whole is not None and early is not None
        same = torch.equal(whole.grid, early.grid)
        try:
            report(f"feature_forward_{tap}", *seconds, "s a forward", same, goal)
        except SystemExit:
            failed.append(tap)
    raise SystemExit(bool(failed))
