"""Models without contents, to count what they would take: tensors of shapes alone, autocast as a GPU has it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import PreTrainedModel
from transformers.models.dinov3_vit import modeling_dinov3_vit as dinov3


class _Fake(FakeTensorMode):
    """Copies of a fake layer are of the same mode; torch's own do not work together."""

    def __deepcopy__(self, memo: Any) -> _Fake:
        return self


@contextmanager
def fake() -> Iterator[None]:
    """Tensors without contents, in which all of our models can be built and run.

    transformers draws first weights by reading numbers, and keeps DINOv3's coordinates for the next model: not here.
    """
    coordinates = dinov3.get_patches_center_coordinates
    with (
        _Fake(),
        _replaced(PreTrainedModel, "init_weights", lambda self: None),
        _replaced(dinov3, "get_patches_center_coordinates", coordinates.__wrapped__),
        warnings.catch_warnings(),
    ):
        warnings.filterwarnings("ignore", "Accessing the data pointer of FakeTensor")  # copies of a layer do
        yield


@contextmanager
def autocast_of_cuda() -> Iterator[None]:
    """bf16 autocast with what a GPU computes in float32 and a CPU does not: norms and interpolations, whose inputs are
    kept for the backward pass (torch/include/ATen/autocast_mode.h).
    """

    def widened(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        return lambda inputs, *others, **named: function(inputs.float(), *others, **named)

    with ExitStack() as stack:
        for name in ("group_norm", "layer_norm", "interpolate"):
            stack.enter_context(_replaced(F, name, widened(getattr(F, name))))
        stack.enter_context(torch.autocast("cpu", torch.bfloat16))
        yield


@contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    original = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, original)
