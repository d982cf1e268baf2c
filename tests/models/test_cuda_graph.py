"""A replayed function gives what the function gives, for new values and new shapes; skipped without a GPU."""

from __future__ import annotations

import pytest
import torch

from vidpara.cli import UserError
from vidpara.models.cuda_graph import Replayed


def double(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return 2 * x + y, y - x


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_replayed_function_gives_what_the_function_gives():
    replayed = Replayed(double)
    for rows in (3, 3, 5):
        given = (torch.randn(rows, 4, device="cuda"), torch.randn(rows, 4, device="cuda"))
        for ours, theirs in zip(replayed(*given), double(*given), strict=True):
            assert torch.equal(ours, theirs)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_cuda_device_the_setting_is_refused():
    with pytest.raises(UserError, match="needs a CUDA device, and there is none; set --cuda_graph False"):
        Replayed(double)
