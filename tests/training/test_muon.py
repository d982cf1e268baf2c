"""Muon, against PyTorch's own for matrices and against the singular value decomposition."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from vidpara.config import OptimizerConfig
from vidpara.training.muon import Muon, newton_schulz, orthogonalized
from vidpara.training.optimizer import ParamGroup, build_optimizer


def gradients(*shapes: tuple[int, ...]) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator) for shape in shapes]


def test_singular_values_come_near_one_and_singular_vectors_stay():
    (matrix,) = gradients((1, 24, 60))
    u, s, vh = torch.linalg.svd(newton_schulz(matrix)[0], full_matrices=False)
    assert float(s.min()) > 0.6 and float(s.max()) < 1.3
    polar = torch.linalg.svd(matrix[0], full_matrices=False)
    assert torch.allclose(torch.linalg.svdvals(polar.U.T @ u), torch.ones(24), atol=1e-4)
    assert torch.allclose(torch.linalg.svdvals(polar.Vh @ vh.T), torch.ones(24), atol=1e-4)


def test_a_filter_is_a_matrix_of_its_output_channels_and_shapes_do_not_mix():
    filters, tall, wide = gradients((8, 4, 3, 3), (36, 8), (8, 36))
    together = orthogonalized([filters, tall, wide])
    for update, alone in zip(together, (filters, tall, wide), strict=True):
        (expected,) = orthogonalized([alone.flatten(1)])
        assert torch.allclose(update, expected.view(alone.shape), atol=1e-5)
    assert torch.allclose(orthogonalized([tall.mT.contiguous()])[0].mT, together[1], atol=1e-5)


@pytest.mark.parametrize("shape", [(16, 16), (8, 40), (40, 8)])
def test_an_update_is_as_large_as_adamws(shape: tuple[int, int]):
    (update,) = orthogonalized(gradients(shape))
    assert 0.15 < float(update.square().mean().sqrt()) < 0.25


def test_matrices_follow_pytorchs_muon():
    ours, theirs = (nn.Parameter(value.clone()) for value in gradients((12, 30)) * 2)
    mine = Muon([{"params": [ours], "orthogonal": True, "lr": 0.1}], 0.1, (0.9, 0.99), weight_decay=0.01)
    reference = torch.optim.Muon([theirs], lr=0.1, weight_decay=0.01, adjust_lr_fn="match_rms_adamw")
    before = ours.detach().clone()
    for gradient in gradients((12, 30), (12, 30), (12, 30)):
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        mine.step()
        reference.step()
    with torch.no_grad():
        apart = float((ours - theirs).norm() / (theirs - before).norm())
    assert apart < 0.02  # theirs iterates in bfloat16


@pytest.mark.parametrize("kind", ["muon", "adamw"])
@pytest.mark.parametrize("muon_head", [False, True])
def test_matrices_of_other_groups_follow_muon_where_it_is_asked_for(kind, muon_head):
    head = nn.Linear(4, 2)
    config = OptimizerConfig(kind=kind, muon_head=muon_head)
    optimizer = build_optimizer(head, [ParamGroup("head", list(head.parameters()), 0.2)], config)
    orthogonal = {tuple(group["params"][0].shape): group["orthogonal"] for group in optimizer.param_groups}
    assert orthogonal == {(2, 4): kind == "muon" and muon_head, (2,): False}


def test_all_but_the_matrices_of_hidden_groups_follows_adamw():
    body, head = nn.Linear(6, 4), nn.Linear(4, 2)
    twin_body, twin_head = nn.Linear(6, 4), nn.Linear(4, 2)
    twin_body.load_state_dict(body.state_dict())
    twin_head.load_state_dict(head.state_dict())
    steps = []
    for kind, first, last in (("muon", body, head), ("adamw", twin_body, twin_head)):
        groups = [
            ParamGroup("body", list(first.parameters()), 0.1, hidden=True),
            ParamGroup("head", list(last.parameters()), 0.2),
        ]
        steps.append(build_optimizer(nn.ModuleList([first, last]), groups, OptimizerConfig(kind=kind)))
    for parameters, optimizer in zip(
        ([*body.parameters(), *head.parameters()], [*twin_body.parameters(), *twin_head.parameters()]),
        steps,
        strict=True,
    ):
        for group in optimizer.param_groups:
            group["lr"] = group["base_lr"]
        for parameter, gradient in zip(parameters, gradients(*(p.shape for p in parameters)), strict=True):
            parameter.grad = gradient
        optimizer.step()
    assert not torch.allclose(body.weight, twin_body.weight)
    for ours, theirs in (
        (body.bias, twin_body.bias),
        (head.weight, twin_head.weight),
        (head.bias, twin_head.bias),
    ):
        assert torch.allclose(ours, theirs)
