"""Metrics of one run: `metrics.jsonl` and Weights & Biases."""

from __future__ import annotations

import json
import math
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vidpara.cli import UserError
from vidpara.config import TrainerConfig
from vidpara.files import write_atomically

Metric = float | Path


class Logger:
    """Writes events: one JSON line each, and the same numbers and pictures to W&B. Rank 0 has the only one.

    Raises:
        UserError: W&B does not start, for want of a login or a connection.
    """

    def __init__(self, run: Path, step: int, config: TrainerConfig, resolved: Mapping[str, Any]) -> None:
        self.run = run
        self._file = run / "metrics.jsonl"
        _drop_after(self._file, step)
        self._lines = self._file.open("a", buffering=1)
        self._wandb = None
        if config.wandb != "disabled":
            import wandb  # only here: importing it costs a second, and it may be absent

            self._module = wandb
            try:
                self._wandb = wandb.init(
                    project=config.project, name=run.name, dir=run, id=_identity(run), resume="allow",
                    mode=config.wandb, config=dict(resolved), settings=wandb.Settings(silent=True, console="off"),
                )  # fmt: skip
            except wandb.Error as error:
                raise UserError(
                    f"cannot start Weights & Biases ({' '.join(str(error).split())}); log in with `wandb login`, or "
                    "set --trainer.wandb offline"
                ) from error
            self._wandb.define_metric("*", step_metric="step")

    def write(self, step: int, metrics: Mapping[str, Metric]) -> None:
        """One event. A path is a picture or video: it is kept below the run and named relative to it."""
        kept = {name: self._keep(step, value) for name, value in metrics.items()}
        self._lines.write(json.dumps({"step": step} | {name: self._line(kept[name]) for name in kept}) + "\n")
        if self._wandb is not None:
            self._wandb.log({"step": step} | {name: self._shown(kept[name]) for name in kept})

    def close(self) -> None:
        """Finish the files."""
        self._lines.close()
        if self._wandb is not None:
            self._wandb.finish()

    def _keep(self, step: int, value: Metric) -> Metric:
        if not isinstance(value, Path) or value.is_relative_to(self.run):
            return value
        folder = self.run / "media" / f"{step:08d}"
        folder.mkdir(parents=True, exist_ok=True)
        return Path(shutil.copy(value, folder / value.name))

    def _line(self, value: Metric) -> str | float | None:
        if isinstance(value, Path):
            return str(value.relative_to(self.run))
        return float(value) if math.isfinite(value) else None  # JSON has no NaN

    def _shown(self, value: Metric) -> Any:
        if not isinstance(value, Path):
            return value
        kind = self._module.Video if value.suffix in {".mp4", ".gif", ".webm"} else self._module.Image
        return kind(str(value))


def _drop_after(file: Path, step: int) -> None:
    """Cut `file` to the events up to `step`: a resumed run writes the later ones again."""
    if not file.exists():
        return
    kept = [line for line in file.read_text().splitlines() if 0 < _step_of(line) <= step]
    write_atomically(file, "".join(f"{line}\n" for line in kept).encode())


def _step_of(line: str) -> int:
    """The event's step; 0 for a line that a killed process left unfinished."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return 0


def _identity(run: Path) -> str:
    """W&B's name of this run, the same after a resume."""
    file = run / "wandb_id.txt"
    if not file.exists():
        file.write_text(uuid.uuid4().hex[:8])
    return file.read_text().strip()
