"""A function of tensors, recorded once as a CUDA graph and replayed: one launch in place of some two thousand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vidpara.cli import UserError

WARM_UP = 3
"""Calls before recording, in which libraries choose their kernels and take their memory."""


class Recorded(NamedTuple):
    """The graph, and the tensors that it reads and writes."""

    graph: torch.cuda.CUDAGraph
    inputs: tuple[Tensor, ...]
    output: Any


class Replayed:
    """`run` of CUDA tensors, without gradients. Each call overwrites what the one before it returned.

    `run` must not move data between CPU and GPU. A call with tensors of new shapes records anew.

    Raises:
        UserError: this machine has no CUDA device.
    """

    def __init__(self, run: Callable[..., Any]) -> None:
        if not torch.cuda.is_available():
            raise UserError("a CUDA graph needs a CUDA device, and there is none; set --cuda_graph False")
        self._run = run
        self._recorded: dict[tuple[torch.Size, ...], Recorded] = {}
        self._pool = torch.cuda.graph_pool_handle()
        """One for all shapes, since only one graph's output is needed at a time."""

    @torch.no_grad()
    def __call__(self, *inputs: Tensor) -> Any:
        shapes = tuple(tensor.shape for tensor in inputs)
        if shapes not in self._recorded:
            self._recorded[shapes] = self._record(tuple(tensor.clone() for tensor in inputs))
        found = self._recorded[shapes]
        for kept, given in zip(found.inputs, inputs, strict=True):
            kept.copy_(given)
        found.graph.replay()
        return found.output

    def _record(self, inputs: tuple[Tensor, ...]) -> Recorded:
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(WARM_UP):
                self._run(*inputs)
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            output = self._run(*inputs)
        return Recorded(graph, inputs, output)
