"""Which cells of a plan are asked for, and which of their steps still have to run."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from vidpara.cli import UserError
from vidpara.experiment.plan import Cell, Plan, Step


def select(plan: Plan, parts: Sequence[str]) -> Plan:
    """The plan of only those cells that have one of `parts` in their names, steps of the first part's cells first.

    A part is one or several of the name's words between hyphens: `joint` does not take `joint_with_video-seed0`.

    Raises:
        UserError: a part is in no cell's name.
    """
    cells: list[Cell] = []
    steps: dict[str, Step] = {}
    for part in parts:
        found = [cell for cell in plan.cells if f"-{part}-" in f"-{cell.name}-"]
        if not found:
            names = ", ".join(cell.name for cell in plan.cells)
            raise UserError(
                f"no cell of '{plan.experiment.name}' has '{part}' in its name; the cells: {names}"
            )
        cells += [cell for cell in found if cell not in cells]
        needed = _needed(plan, found)
        steps |= {name: step for name, step in plan.steps.items() if name in needed and name not in steps}
    return plan._replace(cells=tuple(cells), steps=steps)


def required(plan: Plan, done: Collection[str] = (), train_only: bool = False) -> set[str]:
    """Steps that have to run so that every cell but those named in `done` gets its result, or only its policy.

    What only finished steps came from need not be there: policies trained elsewhere are evaluated without their
    rollouts.
    """
    found: set[str] = set()

    def want(name: str) -> None:
        if name not in found and not plan.steps[name].product.exists():
            found.add(name)
            for need in plan.steps[name].needs:
                want(need)

    for cell in plan.cells:
        steps = [name for name in cell.steps if not train_only or plan.steps[name].stage != "evaluate_policy"]
        if cell.name not in done and steps:
            want(steps[-1])
    of_cells = {step for cell in plan.cells for step in cell.steps}
    # Of the rollouts, where there are or will be any.
    checks = plan.steps.keys() - of_cells if found else set[str]()
    for name in checks:
        if all(need in found or plan.steps[need].product.exists() for need in plan.steps[name].needs):
            want(name)
    return found


def _needed(plan: Plan, cells: Sequence[Cell]) -> set[str]:
    """Steps of these cells, and those of no cell (the rollouts' check) whose own needs are among them."""
    needed = {step for cell in cells for step in cell.steps}
    of_cells = {step for cell in plan.cells for step in cell.steps}
    extra = {name for name in plan.steps.keys() - of_cells if needed.issuperset(plan.steps[name].needs)}
    return needed | extra
