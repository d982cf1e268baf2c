"""One update after the other, and what happens between them: log, validate, save, stop."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from accelerate.utils import send_to_device
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import Dataset
from tqdm import tqdm

from vidpara.config import OptimizerConfig, TrainerConfig
from vidpara.training import checkpoint
from vidpara.training.divided import whole
from vidpara.training.evaluation import Evaluator, validation_metrics
from vidpara.training.interrupt import StopRequest, stop_requests
from vidpara.training.logger import Logger, Metric
from vidpara.training.optimizer import ParamGroup, lr_at, set_lr
from vidpara.training.pending_losses import PendingLosses, StepRecord
from vidpara.training.sampler import BatchSampler, Share, seed_step, train_loader
from vidpara.training.sharding import gathered
from vidpara.training.state import TrainingState
from vidpara.training.tensor_files import ALONE, Writer
from vidpara.types import Part


@dataclass(kw_only=True)
class Loop:
    """The run from `state.step` to `config.steps`."""

    accelerator: Accelerator
    wrapped: nn.Module
    stepper: AcceleratedOptimizer
    state: TrainingState
    config: TrainerConfig
    optimizer: OptimizerConfig
    groups: Sequence[ParamGroup]
    run: Path
    resolved: str
    logger: Logger | None
    validation: Dataset
    evaluators: Sequence[Evaluator]
    sharded: bool = False
    """Whether each process writes the part of a checkpoint that it holds."""
    autocast: Callable[[], AbstractContextManager[object]] = nullcontext
    """Around the forward where weights are divided; Accelerate puts its own around that of a model that it prepares."""
    plain: nn.Module | None = None
    """Where weights are divided: a copy that holds whole ones, for evaluations."""
    request: StopRequest = field(default_factory=StopRequest)

    def go(self, dataset: Dataset, shares: Sequence[Share]) -> None:
        """Train to the end on batches made of these shares of the dataset.

        Raises:
            KeyboardInterrupt: SIGINT or SIGTERM came; the finished steps are saved.
        """
        state, config, accelerator = self.state, self.config, self.accelerator
        sampler = BatchSampler(
            shares, config, start=state.step, rank=accelerator.process_index, ranks=accelerator.num_processes
        )  # fmt: skip
        batches = iter(train_loader(dataset, sampler, pin=accelerator.device.type == "cuda"))
        parts = [sampler.part(micro) for micro in range(config.accumulate)]
        bar = tqdm(
            total=config.steps, initial=state.step, disable=not accelerator.is_main_process, unit="step",
            mininterval=0.5 if sys.stderr.isatty() else 30,
        )  # fmt: skip
        pending = PendingLosses(check_gradient=state.scaler is None)  # loss scaling overflows on purpose
        clock = _Clock(state.step)
        self.wrapped.train()
        with bar, stop_requests() as self.request:
            while state.step < config.steps:
                values, grad_norm = self._update(batches, parts)
                state.step += 1
                state.ema.update(state.step)
                pending.add(state.step, state.weights.names, values, grad_norm)
                bar.update()
                if self._must_read():
                    self._between(pending.read(), clock, bar)

    def _must_read(self) -> bool:
        """Whether the losses are needed now; reading them makes a GPU's step wait."""
        every = (self.config.log_every, self.config.validate_every, self.config.checkpoint_every)
        asked = self.request.asked and self.accelerator.num_processes == 1
        return self.accelerator.device.type == "cpu" or asked or any(map(self._due, every))

    def _between(self, records: Sequence[StepRecord], clock: _Clock, bar: tqdm) -> None:
        """What is due after the last of the finished steps `records`."""
        state, config = self.state, self.config
        state.loss_sum += sum(state.weights.plain(record.losses) for record in records)
        state.loss_count += len(records)
        stop = any(record.stop for record in records) and state.step < config.steps
        if self._due(config.log_every):
            samples = config.batch_size * config.accumulate * self.accelerator.num_processes
            self._log(records[-1], samples * clock.steps_per_second(state.step), bar)
        if self._due(config.validate_every):
            self._evaluate()
            clock.start(state.step)
        if stop or self._due(config.checkpoint_every):
            self._save()
            clock.start(state.step)
        if stop:
            raise KeyboardInterrupt

    def _update(self, batches: Iterator[Any], parts: Sequence[Part | None]) -> tuple[Tensor, Tensor]:
        """One optimizer update; returns (losses and stop flag, means over micro-steps and processes; gradient norm)."""
        state, accelerator = self.state, self.accelerator
        set_lr(state.optimizer, state.step, self.config.steps, self.optimizer)
        parameters = [parameter for group in state.optimizer.param_groups for parameter in group["params"]]
        summed = torch.zeros((), device=accelerator.device)
        grad_norm = summed
        for micro, part in enumerate(parts):
            batch = send_to_device(next(batches), accelerator.device, non_blocking=True)
            seed_step(self.config, accelerator.process_index, state.step, micro)
            with accelerator.accumulate(self.wrapped):
                with self.autocast():
                    losses = self.wrapped(batch, part) if part else self.wrapped(batch)
                state.weights.bind(tuple(losses), accelerator.device)
                values = torch.stack([loss.float() for loss in losses.values()])
                stop = values.new_full((1,), float(self.request.asked))
                means = torch.cat([values.detach(), stop])
                # weights that stay need no means yet: the backward pass then waits for no other process' forward
                if state.weights.adapt:
                    means = cast(Tensor, accelerator.reduce(means, "mean"))
                accelerator.backward((values * state.weights.update(means[:-1])).sum())
                summed = summed + means
                if accelerator.sync_gradients:
                    limit = self.optimizer.clip_norm or math.inf
                    grad_norm = whole(cast(Tensor, accelerator.clip_grad_norm_(parameters, limit)))
                self.stepper.step()
                self.stepper.zero_grad(set_to_none=not self._in_buckets)
        if not state.weights.adapt:
            summed = cast(Tensor, accelerator.reduce(summed, "mean"))
        return summed / self.config.accumulate, grad_norm

    @property
    def _in_buckets(self) -> bool:
        """Whether gradients stay in DDP's buckets: without them the micro-steps that exchange nothing would make anew
        what the buckets hold, beside them.
        """
        return isinstance(self.wrapped, DistributedDataParallel) and self.config.accumulate > 1

    def _log(self, record: StepRecord, samples_per_second: float, bar: tqdm) -> None:
        loss = self.state.weights.plain(record.losses)
        bar.set_postfix_str(f"loss {loss:.4g}, {samples_per_second:.3g} samples/s", refresh=False)
        last = record.step - 1
        only = self.groups[0].lr if len(self.groups) == 1 else None
        rates = {
            f"train_step/{group.name}_lr": lr_at(last, self.config.steps, self.optimizer, group.lr)
            for group in self.groups
        }
        self._write(
            {
                "train_step/loss": loss,
                **{f"train_step/{name}_loss": value for name, value in record.losses.items()},
                **(rates if len(rates) > 1 else {}),
                "train_step/lr": lr_at(last, self.config.steps, self.optimizer, only),
                "train_step/grad_norm": record.grad_norm,
                "train_step/samples_per_second": samples_per_second,
            }
        )

    def _evaluate(self) -> None:
        """Validation losses on all processes, the caller's evaluators on rank 0, all with the averaged weights."""
        state = self.state
        self._write({"train/loss": state.loss_sum / state.loss_count})
        state.loss_sum, state.loss_count = 0.0, 0
        with state.ema.swapped_in(), self._whole_model() as model, torch.no_grad():
            model.eval()
            with self.autocast():
                metrics = validation_metrics(
                    model, self.validation, state.weights, self.config, self.accelerator
                )
            self._write(metrics)
            if self.accelerator.is_main_process:
                for evaluator in self.evaluators:
                    self._write(dict(evaluator(model, state.step)))
        self.wrapped.train()
        self.accelerator.wait_for_everyone()

    def _whole_model(self) -> AbstractContextManager[nn.Module]:
        """The bare model, which one process may run alone."""
        model, plain = self.state.model, self.plain
        return gathered(model, plain, self.accelerator.device) if plain else nullcontext(model)

    def _save(self) -> None:
        accelerator = self.accelerator
        writer = ALONE
        if self.sharded:
            writer = Writer(
                accelerator.process_index, accelerator.num_processes, accelerator.wait_for_everyone
            )
        found = self.state.checkpoint(self.resolved, writer)
        if self.sharded or accelerator.is_main_process:
            checkpoint.save(self.run, found, self.config.keep_checkpoints, writer)
        accelerator.wait_for_everyone()

    def _write(self, metrics: Mapping[str, Metric]) -> None:
        if self.logger and metrics:
            self.logger.write(self.state.step, metrics)

    def _due(self, every: int) -> bool:
        return self.state.step == self.config.steps or (every > 0 and self.state.step % every == 0)


class _Clock:
    """Steps a second since the last question; validation and saving start it again."""

    def __init__(self, step: int) -> None:
        self.start(step)

    def start(self, step: int) -> None:
        self._step, self._time = step, time.perf_counter()

    def steps_per_second(self, step: int) -> float:
        speed = (step - self._step) / max(time.perf_counter() - self._time, 1e-9)
        self.start(step)
        return speed
