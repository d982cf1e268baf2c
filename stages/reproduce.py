"""An experiment from its YAML file: every cell trained and evaluated, finished steps reused, results and tests written.

python stages/reproduce.py configs/experiments/video_backbone.yaml --jobs 2

After an interrupt the same command goes on. Another size: --overlays configs/full.yaml
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import tyro

from vidpara.cli import UserError, call
from vidpara.evaluation import results
from vidpara.experiment import publish
from vidpara.experiment.choose import required, select
from vidpara.experiment.declare import read
from vidpara.experiment.execute import alone, run, standings
from vidpara.experiment.executors import Local, answer_signals, command
from vidpara.experiment.plan import plan
from vidpara.experiment.slurm import Slurm
from vidpara.experiment.table import LiveTable


def main(
    experiment: tyro.conf.Positional[Path],
    jobs: int = 1,
    only: tuple[str, ...] = (),
    overlays: tuple[str, ...] = (),
    executor: Literal["local", "slurm"] = "local",
    slurm: tuple[str, ...] = (),
    reuse: bool = False,
    train_only: bool = False,
    dry_run: bool = False,
) -> None:
    """Run an experiment.

    Args:
        experiment: the YAML file that declares its cells.
        jobs: steps side by side; on this machine the cores (and GPUs) are divided among them.
        only: run only cells with one of these between the hyphens of their names (a recipe, a setting, a test: `joint`
            is not in `joint_equal-seed0`), the first one's cells first.
        overlays: YAML files that replace the experiment's own, for another size; they name its results' folder.
        executor: this machine, or a Slurm cluster through submitit.
        slurm: settings for submitit, such as slurm_partition=gpu gpus_per_node=1 timeout_min=600.
        reuse: count cells as finished whose results are in the repository, made by the same plan.
        train_only: evaluate nothing; with the run folders the same command goes on where there is a simulator.
        dry_run: print all commands, each with how far it is, and run nothing.
    """
    whole = plan(read(experiment), overlays)
    planned = select(whole, only) if only else whole
    done = publish.published(planned) if reuse else {}
    given = {cell.steps[-1] for cell in planned.cells if cell.name in done}
    chosen = required(planned, done, train_only)
    if dry_run:
        for name, now in standings(planned, chosen, given).items():
            print(f"{now.state:8}", " ".join(command(planned.steps[name])[1:]))
        return
    machine = Local(jobs) if executor == "local" else Slurm(jobs, planned.experiment.runs / "slurm", slurm)
    with alone(planned):
        try:
            with LiveTable(planned) as live:
                standing = run(planned, machine, live.show, chosen, given)
        finally:  # an interrupt leaves the table and the page of what is finished
            found = publish.publish(whole)
    page = publish.page_path(whole)
    print(*map(results.summary, found.values()), *([page] if found and page.is_file() else []), sep="\n")
    if failed := [f"{name}: {value.note}" for name, value in standing.items() if value.state == "failed"]:
        raise UserError(f"{len(failed)} of {len(standing)} steps failed: {'; '.join(failed)}")


if __name__ == "__main__":
    answer_signals()
    call(main)
