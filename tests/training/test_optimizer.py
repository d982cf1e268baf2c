"""Learning rate and parameter groups."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import nn

from vidpara.config import OptimizerConfig
from vidpara.models.layout import use_channels_last
from vidpara.training.optimizer import (
    ParamGroup,
    build_optimizer,
    load_optimizer_tensors,
    lr_at,
    optimizer_tensors,
)
from vidpara.training.tensor_files import ALONE, store, stored

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


def test_muons_count_of_steps_stays_on_the_cpu_after_a_checkpoint():
    """On a GPU each step of its unfused AdamW would wait to read it; here the GPU is the meta device."""
    model = nn.Linear(3, 2)
    config = OptimizerConfig(kind="muon")
    group = ParamGroup("all", list(model.parameters()), 1e-2, hidden=True)
    optimizer = build_optimizer(model, [group], config)
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    tensors = optimizer_tensors(model, optimizer)
    assert tensors.keys() == {"weight/momentum", "bias/exp_avg", "bias/exp_avg_sq", "bias/step"}
    elsewhere = nn.Linear(3, 2, device="meta")
    group = ParamGroup("all", list(elsewhere.parameters()), 1e-2, hidden=True)
    resumed = build_optimizer(elsewhere, [group], config)
    load_optimizer_tensors(elsewhere, resumed, tensors)
    state = resumed.state[elsewhere.bias]
    assert (state["step"].device.type, state["exp_avg"].device.type) == ("cpu", "meta")


def test_moments_lie_in_memory_as_their_parameters_do_after_a_checkpoint_too():
    """A fused update takes both for equally laid out; files hold all tensors row by row."""

    def made() -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(0)
        model = nn.Conv2d(8, 16, 3)
        use_channels_last(model)
        group = ParamGroup("all", list(model.parameters()), 1e-2)
        return model, build_optimizer(model, [group], OptimizerConfig(lr=1e-2))

    def steps(model: nn.Module, optimizer: torch.optim.Optimizer, first: int) -> None:
        for index in range(first, first + 3):
            generator = torch.Generator().manual_seed(index)
            model(torch.randn(2, 8, 6, 6, generator=generator)).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()

    whole, moved, fresh = made(), made(), made()
    for each in (whole, moved):
        steps(*each, 0)
    stored = {name: value.contiguous() for name, value in optimizer_tensors(*moved).items()}
    fresh[0].load_state_dict(moved[0].state_dict())
    load_optimizer_tensors(*fresh, stored)
    for each in (whole, fresh):
        steps(*each, 3)
    assert torch.equal(whole[0].weight, fresh[0].weight)


def test_moments_in_eight_bits_survive_a_checkpoint(tmp_path: Path):
    pytest.importorskip("bitsandbytes")
    config = OptimizerConfig(kind="adamw8bit", lr=1e-2)

    def made() -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(128, 64), nn.Linear(64, 128))  # two that share the table of codes
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
    assert tensors["0.weight/state1"].dtype == torch.uint8
    store(tmp_path, "optimizer", tensors, ALONE)
    tensors = dict(stored(tmp_path, "optimizer", 1))
    fresh = made()
    fresh[0].load_state_dict(moved[0].state_dict())
    load_optimizer_tensors(*fresh, tensors)
    steps(*whole, 2)
    steps(*fresh, 2)
    whole_weights, weights = ([*made[0].parameters()] for made in (whole, fresh))
    assert all(torch.equal(a, b) for a, b in zip(whole_weights, weights, strict=True))


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_state_that_was_put_back_is_no_part_of_the_file_that_it_came_from(kind):
    """Mapped, a deleted checkpoint would keep its place on a network disk, and its folder could not be removed."""
    model = nn.Linear(3, 2)
    groups = [ParamGroup("all", list(model.parameters()), 1.0, hidden=True)]
    optimizer = build_optimizer(model, groups, OptimizerConfig(kind=kind))
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    saved = {name: value.clone() for name, value in optimizer_tensors(model, optimizer).items()}
    load_optimizer_tensors(model, optimizer, saved)
    ours = {value.data_ptr() for state in optimizer.state.values() for value in state.values()}
    assert ours.isdisjoint(value.data_ptr() for value in saved.values())
