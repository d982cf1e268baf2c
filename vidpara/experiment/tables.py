"""An experiment's results as Markdown: a row a cell, success by tilt, and the paired tests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from vidpara.cli import UserError
from vidpara.evaluation import results
from vidpara.evaluation.results import Results
from vidpara.experiment.plan import Plan
from vidpara.report import views
from vidpara.report.published import ERROR


def markdown(plan: Plan, found: Mapping[str, Results]) -> str:
    """All tables that the results have numbers for, a blank line between two."""
    tables = [list(cells(found)), list(by_tilt(found)), list(comparisons(plan, found))]
    return "\n\n".join("\n".join(lines) for lines in tables if lines) + "\n"


def cells(found: Mapping[str, Results]) -> Iterator[str]:
    """A row a cell; with the plan's error where held-out demos were asked for."""
    measured = any(ERROR in result.measured for result in found.values())
    titles = ["cell", "PLACE, with 95 % interval (Wilson)", "GRASP", "MISS"]
    titles += ["plan error, cm"] if measured else []
    yield from _head(titles)
    for name, result in found.items():
        row = [name, results.success(result), str(result.count("GRASP")), str(result.count("MISS"))]
        if measured:
            row.append(f"{100 * result.measured[ERROR]:.1f}" if ERROR in result.measured else "")
        yield _row(row)


def by_tilt(found: Mapping[str, Results]) -> Iterator[str]:
    """PLACE of the episodes at each tilt of the camera, a row a cell that was seen from several."""
    turned = {name: views.tilts(result) for name, result in found.items()}
    turned = {name: tilts for name, tilts in turned.items() if len(tilts) > 1}
    angles = sorted({tilt for tilts in turned.values() for tilt in tilts})
    if turned:
        yield from _head(["PLACE by tilt of the camera", *(f"{angle:g}°" for angle in angles)])
    for name, tilts in turned.items():
        yield _row([name, *(views.placed_of(tilts[angle]) if angle in tilts else "" for angle in angles)])


def comparisons(plan: Plan, found: Mapping[str, Results]) -> Iterator[str]:
    """McNemar's exact test for each declared pair whose cells are finished."""
    pairs = [(a, b) for a, b in plan.pairs if a in found and b in found]
    if pairs:
        yield from _head(["A", "B", "only A", "only B", "p (McNemar, exact, two-sided)"])
    for a, b in pairs:
        try:
            paired = results.compare(found[a], found[b])
        except UserError as error:  # not the same starts: the other pairs are still worth their test
            yield _row([a, b, "", "", str(error)])
            continue
        yield _row([a, b, str(paired.only_a), str(paired.only_b), f"{paired.p_value:.2g}"])


def _head(titles: list[str]) -> Iterator[str]:
    yield _row(titles)
    yield "|---" * len(titles) + "|"


def _row(entries: list[str]) -> str:
    return f"| {' | '.join(entries)} |"
