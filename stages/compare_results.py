"""Two evaluations on the same starts: paired table and McNemar's exact test.

python stages/compare_results.py results/demo/two_stage.json results/demo/joint.json
"""

from __future__ import annotations

from pathlib import Path

import tyro

from vidpara.cli import call
from vidpara.evaluation import results


def main(a: tyro.conf.Positional[Path], b: tyro.conf.Positional[Path]) -> None:
    """Compare the results files A and B.

    Args:
        a: a results file of stages/evaluate_policy.py.
        b: another one, on the same starts.
    """
    first, second = results.read(a), results.read(b)
    paired = results.compare(first, second)
    for found in (first, second):
        print(results.summary(found))
    width = max(len(first.cell), 6)
    print(f"\n{'':{width + 6}}  {second.cell} PLACE   not")
    for label, counts in (("PLACE", (paired.both, paired.only_a)), ("not", (paired.only_b, paired.neither))):
        print(f"{first.cell:{width}} {label:5}  {counts[0]:{len(second.cell) + 6}d} {counts[1]:5d}")
    print(
        f"\nMcNemar, exact, two-sided: p = {paired.p_value:.4g} ({paired.only_a} : {paired.only_b} starts differ)"
        "\nOf these two trainings; another seed of a recipe is another policy (docs/compare.md)"
    )
    for difference in results.judged_otherwise(first, second):
        print(f"note: judged with another {difference}")


if __name__ == "__main__":
    call(main)
