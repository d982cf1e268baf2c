"""The one training loop: any module whose forward returns named losses.

The same command starts a run, resumes it where it stopped (bit for bit), and says so when it is finished.
"""

from __future__ import annotations

import contextlib
import copy
import json
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar, cast

import torch
import yaml
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.utils import AutocastKwargs
from torch import nn
from torch.utils.data import Dataset

from vidpara.cli import UserError
from vidpara.config import LossConfig, OptimizerConfig, TrainerConfig
from vidpara.exclusive import exclusive
from vidpara.files import remove
from vidpara.training import checkpoint
from vidpara.training.ema import Ema
from vidpara.training.evaluation import Evaluator
from vidpara.training.logger import Logger
from vidpara.training.loop import Loop
from vidpara.training.on_a_cpu import fast_attention
from vidpara.training.optimizer import ParamGroup, build_optimizer
from vidpara.training.precision import precision_of
from vidpara.training.processes import on_cpu, processes
from vidpara.training.sampler import Piece, Share, length_of
from vidpara.training.sharding import check_launch, copy_whole, named_groups, regrouped, requested, shard
from vidpara.training.state import TrainingState, load_model_tensors
from vidpara.training.weighting import LossWeights
from vidpara.versions import STARTS, processor, versions

M = TypeVar("M", bound=nn.Module)


def train(
    model: M,
    dataset: Dataset,
    validation: Dataset,
    *,
    config: TrainerConfig,
    optimizer: OptimizerConfig,
    weights: LossConfig | Mapping[str, float],
    groups: Sequence[ParamGroup],
    run: Path,
    resolved: str,
    argv: Sequence[str],
    defaults: str = "",
    evaluators: Sequence[Evaluator] = (),
    layers: Sequence[nn.Module] = (),
    shares: Sequence[Share] = (),
    content: str = "",
    save: Callable[[M], object] = lambda trained: None,
    products: Sequence[str] = (),
    begin: Callable[[], object] = lambda: None,
) -> M:
    """Train `model` and return it, unwrapped, with the averaged weights; `run` then holds the log and a checkpoint.

    `model(batch)` gives {name: scalar loss}; `weights` says how they are summed. `resolved` is the configuration as
    YAML and `argv` the command line; both are kept in `run`. `defaults` is the configuration with nothing set: what a
    setting was in a run that is older than it. `layers` are the parts of the model whose weights FSDP gathers one by
    one. `shares` are what the whole batch of an update is made of, if not of the whole dataset alike; with two of them
    training calls `model(batch, part)`. `content` is a digest of the data, with which alone a run goes on. The first
    process calls `begin` before it trains and in the end `save` with the model, while no other command can have the
    run; of what `save` writes there, `products` say that the run is finished, and they are removed as soon as it goes
    on. Every process of a distributed launch calls this.

    Raises:
        UserError: the launch does not fit the settings, processes see different checkpoints, the run is being trained,
            is finished without a checkpoint or was made with another configuration or other data, a loss is not finite
            or has no weight, or the disk is full.
        KeyboardInterrupt: asked to stop; the finished steps are saved.
    """
    check_launch(config, optimizer)
    sharding = requested()
    accelerator = _accelerator(config)
    if accelerator.num_processes == 1:
        sharding = None  # nothing to divide among
    with contextlib.ExitStack() as until_the_end:
        if accelerator.is_main_process:
            taken = f"{run} is being trained by another command; wait for it, or choose another --run"
            until_the_end.enter_context(exclusive(run / "run.lock", taken))
        found = checkpoint.latest(run)
        _check_shared(run, found, accelerator)
        _check_unfinished(run, found, products)
        saved, changed = checkpoint.load(found) if found else None, []
        if found and saved:
            changed = _check(found, saved, resolved, defaults, config, accelerator.num_processes)
            _check_content(found, saved, content)
        accelerator.wait_for_everyone()  # every process has read the folder before one of them changes it
        # before the model is on a GPU, where there may be no room for another
        plain = copy.deepcopy(model) if sharding else None
        model.to(accelerator.device)
        if saved:
            load_model_tensors(model, saved.tensors["model"])
        if saved and saved.step == config.steps:
            load_model_tensors(model, saved.tensors["ema"])
            accelerator.print(f"{run} is finished ({saved.step} steps); raise --trainer.steps to go on")
            if accelerator.is_main_process:
                save(model)
            return model

        if sharding:
            named = named_groups(model, groups)
            shard(model, layers, sharding, accelerator.device, half=accelerator.mixed_precision == "bf16")
            groups = regrouped(model, named)
            accelerator.print(f"weights are divided among {accelerator.num_processes} processes (FSDP2)")
        raw_optimizer = build_optimizer(model, groups, optimizer)
        wrapped = model if sharding else accelerator.prepare(model)
        stepper = accelerator.prepare(raw_optimizer)
        state = TrainingState(
            model, raw_optimizer, Ema(model, config.ema), LossWeights(weights, config.accumulate), accelerator.scaler,
            accelerator.num_processes, accelerator.process_index, content,
        )  # fmt: skip
        if saved:
            state.load(saved)
        del saved  # its files are open
        logger = None
        if accelerator.is_main_process:
            _prepare_folder(run, resolved, argv, products)
            begin()
            if optimizer.warmup >= config.steps:
                accelerator.print(
                    f"note: optimizer.warmup {optimizer.warmup} is as long as the run ({config.steps} steps), whose "
                    "learning rate rises to its end; set --optimizer.warmup lower"
                )
            _note_start(run, state.step, changed, accelerator)
            logger = Logger(run, state.step, config, yaml.safe_load(resolved) or {})
            until_the_end.callback(logger.close)
        loop = Loop(
            accelerator=accelerator, wrapped=wrapped, stepper=stepper, state=state, config=config, optimizer=optimizer,
            groups=groups, run=run, resolved=resolved, logger=logger, validation=validation, evaluators=evaluators,
            sharded=bool(sharding) and config.checkpoints == "sharded",
            autocast=accelerator.autocast if sharding else contextlib.nullcontext, plain=plain,
        )  # fmt: skip
        with fast_attention(model, accelerator.device, accelerator.mixed_precision):
            size = config.batch_size * config.accumulate * accelerator.num_processes
            loop.go(dataset, shares or [Share(size, (Piece(0, length_of(dataset)),))])
        state.ema.copy_to_model()
        accelerator.wait_for_everyone()
        trained = cast(M, accelerator.unwrap_model(wrapped, keep_fp32_wrapper=False))
        if plain is not None:
            copy_whole(model, plain)
            trained = plain
        if accelerator.is_main_process:
            save(trained)
        return trained


def _accelerator(config: TrainerConfig) -> Accelerator:
    processes()
    return Accelerator(
        cpu=on_cpu(),
        mixed_precision=precision_of(config),
        gradient_accumulation_steps=config.accumulate,
        kwargs_handlers=[
            DistributedDataParallelKwargs(gradient_as_bucket_view=True),
            # a forward uses each weight once; a cache would keep bf16 copies of all
            AutocastKwargs(cache_enabled=False),
        ],
    )


def _check_shared(run: Path, found: Path | None, accelerator: Accelerator) -> None:
    """Every process learns what all of them see: those that went on alone would wait for one another for hours.

    Raises:
        UserError: the processes do not see the same checkpoint.
    """
    step = checkpoint.step_of(found) if found else -1
    seen: list[int] = accelerator.gather(torch.tensor([step], device=accelerator.device)).tolist()
    if len(set(seen)) > 1:
        words = [
            f"process {rank} {f'step {each}' if each >= 0 else 'none'}" for rank, each in enumerate(seen)
        ]
        raise UserError(
            f"the processes see different checkpoints in {run} ({', '.join(words)}); --run must be on a disk that all "
            "machines share"
        )


def _check_unfinished(run: Path, found: Path | None, products: Sequence[str]) -> None:
    """
    Raises:
        UserError: the run is finished and nothing is left that it could go on from: to begin again would delete it.
    """
    if found is None and (made := [name for name in products if (run / name).exists()]):
        raise UserError(
            f"{run} holds a finished run ({made[0]}) and no checkpoint to go on from; choose another --run, or delete "
            "the folder to train it anew"
        )


def _check(
    folder: Path,
    saved: checkpoint.Checkpoint,
    resolved: str,
    defaults: str,
    config: TrainerConfig,
    processes: int,
) -> list[str]:
    """What the run goes on with that was otherwise before.

    Raises:
        UserError: it cannot go on like this.
    """
    others = saved.state["processes"] != processes
    before = yaml.safe_load(saved.config).get("trainer", {})
    then = saved.state["processes"] * before.get("batch_size", 1) * before.get("accumulate", 1)
    now = processes * config.batch_size * config.accumulate
    if others and then != now:
        raise UserError(
            f"{folder} was made with {then} samples a step ({saved.state['processes']} processes), this launch has "
            f"{now} ({processes} processes); set --trainer.batch_size or --trainer.accumulate so that they agree, or "
            "choose another --run"
        )
    cut = {"trainer.batch_size", "trainer.accumulate"} if others else set[str]()
    free = checkpoint.ADJUSTABLE if saved.step < config.steps else checkpoint.LENGTH
    changed = checkpoint.check_config(folder, saved.config, resolved, defaults, free | cut)
    if saved.step > config.steps:
        raise UserError(
            f"{folder} is past --trainer.steps {config.steps}; give at least {saved.step}, or choose another --run"
        )
    return changed


def _check_content(folder: Path, saved: checkpoint.Checkpoint, content: str) -> None:
    """What depends on the data is made of them anew at each start: the split, the patch autoencoder, the workspace.

    Raises:
        UserError: they are not those that the run began with; checkpoints of older versions do not say.
    """
    if saved.state.get("content", content) != content:
        raise UserError(
            f"{folder} was made with other data: the episodes that data.rollouts names now differ from those in "
            "number, order, length or labels. Choose another --run, or bring back the data as they were"
        )


def _prepare_folder(run: Path, resolved: str, argv: Sequence[str], products: Sequence[str]) -> None:
    run.mkdir(parents=True, exist_ok=True)
    checkpoint.clean(run)
    for name in products:
        remove(run / name)
    (run / "config.yaml").write_text(resolved)
    (run / "command.txt").write_text(shlex.join(["python", sys.argv[0], *argv]) + "\n")


def _note_start(run: Path, step: int, changed: Sequence[str], accelerator: Accelerator) -> None:
    if changed:
        accelerator.print(f"{run} goes on from step {step} with other settings: {', '.join(changed)}")
    start = {
        "step": step,
        "changed": list(changed),
        "precision": accelerator.mixed_precision,
        "processor": processor(accelerator.device),
        "threads": torch.get_num_threads(),
        "processes": accelerator.num_processes,
        **versions(),
    }
    with (run / STARTS).open("a") as file:
        file.write(json.dumps(start) + "\n")
