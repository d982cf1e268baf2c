"""Attention in bf16 on a CPU."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from vidpara.config import ViTConfig
from vidpara.models.dinov3 import ImageModel, random_vit
from vidpara.training.on_a_cpu import fast_attention

CPU = torch.device("cpu")


def attended(dtype: torch.dtype) -> torch.Tensor:
    torch.manual_seed(0)
    queries, keys, values = (torch.randn(2, 3, 40, 16) for _ in range(3))
    return F.scaled_dot_product_attention(queries.to(dtype), keys.to(dtype), values.to(dtype)).float()


def graph(device: torch.device, precision: str) -> str:
    """Name of the backward node of attention: which kernel runs."""
    x = torch.randn(2, 3, 40, 16, dtype=torch.bfloat16, requires_grad=True)
    with fast_attention(nn.Identity(), device, precision):
        found = F.scaled_dot_product_attention(x, x, x).grad_fn
    return type(found).__name__


def test_bf16_on_a_cpu_attends_by_plain_products():
    assert "Flash" in graph(CPU, "no")
    assert "Flash" not in graph(CPU, "bf16")
    assert "Flash" in graph(torch.device("cuda"), "bf16")  # the device that trains, not that of this tensor


def test_it_is_the_same_attention():
    with fast_attention(nn.Identity(), CPU, "bf16"):
        found = attended(torch.bfloat16)
    assert (found - attended(torch.float32)).abs().max() < 0.02  # bf16 keeps 8 bits, and values reach 2


def test_a_vit_attends_in_transformers_own_form_and_finds_the_same():
    torch.manual_seed(0)
    model = ImageModel(random_vit(ViTConfig(width=32, layers=2, heads=2, patch=8)), (-1,))
    images = torch.rand(2, 3, 32, 32) * 2 - 1
    expected, calls = model(images).grid, []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(F, "scaled_dot_product_attention", lambda *_, **__: calls.append(1))
        with fast_attention(model, CPU, "bf16"):
            found = model(images).grid
    assert not calls
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(model(images).grid, expected, atol=0, rtol=0)  # in PyTorch's again


def test_the_settings_come_back_after_an_error():
    before = torch.backends.cuda.fp16_bf16_reduction_math_sdp_allowed()
    model = ImageModel(random_vit(ViTConfig(width=32, layers=1, heads=2, patch=8)), (-1,))
    form = model.vit.config._attn_implementation
    with pytest.raises(ZeroDivisionError), fast_attention(model, CPU, "bf16"):
        raise ZeroDivisionError
    assert torch.backends.cuda.fp16_bf16_reduction_math_sdp_allowed() == before
    assert model.vit.config._attn_implementation == form != "eager"
    assert "Flash" in graph(CPU, "no")
