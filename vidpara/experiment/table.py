"""The live table of an experiment: a row a cell, a column a stage, and above it what the cells share."""

from __future__ import annotations

import functools
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.table import Table

from vidpara.evaluation import results
from vidpara.experiment.execute import Standing
from vidpara.experiment.plan import Plan

COLUMNS = ("train_policy", "evaluate_policy")
STYLES = {
    "waiting": "dim",
    "running": "bold cyan",
    "finished": "green",
    "left out": "dim",
    "failed": "bold red",
    "blocked": "red",
}


class LiveTable:
    """Shows standings: redrawn on a terminal, one line a change elsewhere."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._console = Console(file=sys.stderr)
        self._live = Live(console=self._console, auto_refresh=False) if self._console.is_terminal else None
        self._last: dict[str, str] = {}

    def __enter__(self) -> LiveTable:
        if self._live:
            self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.__exit__(kind, error, trace)

    def show(self, standing: Mapping[str, Standing]) -> None:
        """Draw what changed."""
        if self._live:
            self._live.update(draw(self.plan, standing), refresh=True)
            return
        for name, value in standing.items():
            if value.state not in ("waiting", self._last.get(name)):
                note = f": {value.note}" if value.state == "failed" else ""
                self._console.print(
                    f"{name}: {value.state}{note}", markup=False, highlight=False, soft_wrap=True
                )
            self._last[name] = value.state


def draw(plan: Plan, standing: Mapping[str, Standing]) -> Table:
    """The table at one moment."""
    done = sum(standing[cell.steps[-1]].state == "finished" for cell in plan.cells)
    shared = [name for name, step in plan.steps.items() if step.stage not in COLUMNS]
    title = f"[bold]{plan.experiment.name}[/]: {done} of {len(plan.cells)} cells"
    title += "".join(f" · {name} {_text(standing[name])}" for name in shared)
    table = Table("cell", "policy", "evaluation", "PLACE", title=title, title_justify="left", title_style="")
    for cell in plan.cells:
        by_stage = {plan.steps[name].stage: standing[name] for name in cell.steps}
        judged = by_stage["evaluate_policy"]
        trained = _text(by_stage["train_policy"]) if "train_policy" in by_stage else "given"
        product = plan.steps[cell.steps[-1]].product
        file = product if product.exists() else cell.result
        found = outcome(file) if judged.state == "finished" else ""
        table.add_row(cell.name, trained, _text(judged), found)
    return table


def _text(standing: Standing) -> str:
    note = standing.note if standing.state == "running" and standing.note else standing.state
    return f"[{STYLES[standing.state]}]{note}[/]"


@functools.cache
def outcome(file: Path) -> str:
    """A finished cell's success, with its interval."""
    return results.success(results.read(file))
