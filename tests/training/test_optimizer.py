"""Learning rate and parameter groups."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from vidpara.config import OptimizerConfig
from vidpara.training.optimizer import (
    ParamGroup,
    build_optimizer,
    load_optimizer_tensors,
    lr_at,
    optimizer_tensors,
)

CONFIG = OptimizerConfig(lr=2.0, warmup=4, decay="cosine")


def test_lr_rises_linearly_then_follows_half_a_cosine_to_zero():
    assert [lr_at(step, 24, CONFIG) for step in range(5)] == [0.5, 1.0, 1.5, 2.0, 2.0]
    assert lr_at(14, 24, CONFIG) == pytest.approx(1.0)
    assert lr_at(9, 24, CONFIG) == pytest.approx(1 + math.cos(math.pi / 4))
    assert lr_at(24, 24, CONFIG) == pytest.approx(0.0)


def test_constant_lr_stays_after_warmup():
    constant = OptimizerConfig(lr=2.0, warmup=0, decay="constant")
    assert {lr_at(step, 10, constant) for step in range(10)} == {2.0}


def test_a_group_has_its_own_lr_on_the_same_curve():
    assert all(
        lr_at(step, 24, CONFIG, 0.2) == pytest.approx(lr_at(step, 24, CONFIG) / 10) for step in range(24)
    )


def test_only_matrices_are_decayed():
    model = nn.Linear(3, 2)
    optimizer = build_optimizer(model, [ParamGroup("all", list(model.parameters()), 1.0)], OptimizerConfig())
    decays = {tuple(group["params"][0].shape): group["weight_decay"] for group in optimizer.param_groups}
    assert decays == {(2, 3): 0.01, (2,): 0.0}


def test_every_trainable_parameter_is_in_exactly_one_group():
    model = nn.Linear(3, 2)
    weight = ParamGroup("weight", list(model.parameters())[:1], 1.0)
    with pytest.raises(ValueError, match="no ParamGroup holds bias"):
        build_optimizer(model, [weight], OptimizerConfig())
    with pytest.raises(ValueError, match="several groups"):
        build_optimizer(model, [weight, ParamGroup("all", list(model.parameters()), 1.0)], OptimizerConfig())
    model.bias.requires_grad_(False)
    build_optimizer(model, [weight], OptimizerConfig())


def test_moments_in_eight_bits_survive_a_checkpoint():
    pytest.importorskip("bitsandbytes")
    config = OptimizerConfig(kind="adamw8bit", lr=1e-2)

    def made() -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(0)
        model = nn.Linear(128, 64)
        return model, build_optimizer(model, [ParamGroup("all", list(model.parameters()), 1e-2)], config)

    def steps(model: nn.Module, optimizer: torch.optim.Optimizer, count: int) -> None:
        for index in range(count):
            model(
                torch.randn(4, 128, generator=torch.Generator().manual_seed(index))
            ).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()

    whole, moved = made(), made()
    steps(*whole, 3)
    steps(*moved, 3)
    tensors = optimizer_tensors(*moved)
    assert tensors["weight/state1"].dtype == torch.uint8
    fresh = made()
    fresh[0].load_state_dict(moved[0].state_dict())
    load_optimizer_tensors(*fresh, tensors)
    steps(*whole, 2)
    steps(*fresh, 2)
    assert torch.equal(whole[0].weight, fresh[0].weight)
