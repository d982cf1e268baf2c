"""What computing a look's constants once would save: operations of the time and id embeddings over a whole forward.

Counted on SVD's shape, without memory. The image token is no constant: it is of the present frame, which changes with
every look.
"""

from __future__ import annotations

import torch
from diffusers import UNetSpatioTemporalConditionModel
from torch import nn
from torch._subclasses import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.harness import report
from vidpara.models.cross_attention import use_single_token

FRAMES, ROWS, COLUMNS = 7, 40, 72


def operations(unet: nn.Module) -> tuple[float, float]:
    """(of the embeddings and their projections in every layer, of the whole forward)."""
    given = (
        torch.randn(1, FRAMES, 8, ROWS, COLUMNS),
        torch.zeros(1),
        torch.randn(1, 1, 1024),
        torch.ones(1, 3),
    )
    with torch.no_grad(), FlopCounterMode(display=False, depth=None) as counter:
        unet(*given, return_dict=False)
    by_module = {name: sum(found.values()) for name, found in counter.get_flop_counts().items()}
    constant = ("time_embedding", "add_embedding", "time_emb_proj", "time_pos_embed")
    once = sum(count for name, count in by_module.items() if name.rsplit(".", 1)[-1] in constant)
    return float(once), float(counter.get_total_flops())


if __name__ == "__main__":
    with FakeTensorMode():
        unet = UNetSpatioTemporalConditionModel(sample_size=96, num_attention_heads=(5, 10, 20, 20))
        use_single_token(unet)
        once, whole = operations(unet)
    report("constants", [once], [whole], "operations of a forward", once > 0, 0.01, at_least=False)
