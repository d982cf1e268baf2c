"""Sizes of an experiment: its overlays, and what recipes have `at` one of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from vidpara import cli
from vidpara.cli import UserError
from vidpara.config import CollectConfig, EvaluateConfig, TrainPolicyConfig, TrainVideoConfig
from vidpara.experiment.declare import EVALUATION, Experiment, Recipe, names_one_of


def resized(experiment: Experiment, overlays: tuple[str, ...]) -> Experiment:
    """The experiment with these overlays in the place of all that it names; its results' folder is named after them.
    Finished policies (`policy`) are of the size that they were trained at, and left out.

    Raises:
        UserError: it says what something is at other sizes, and not at this one, or has finished policies alone.
    """
    for name, recipe, _ in _recipes(experiment):
        if recipe.at and not {Path(overlay).stem for overlay in overlays} & recipe.at.keys():
            raise UserError(
                f"'{experiment.name}' says what {name} is at {', '.join(recipe.at)}; for {' '.join(overlays)} add "
                f"{name}.at.{Path(overlays[0]).stem} to its file ({{}} if nothing differs)"
            )
    size = "-".join(Path(overlay).stem for overlay in overlays)
    trained = {name: cell for name, cell in experiment.cells.items() if not cell.policy}
    if not trained:
        raise UserError(f"'{experiment.name}' trains nothing that could be of size {size}")
    left = [name for name in experiment.cells if name not in trained]
    return dataclasses.replace(
        experiment,
        cells={name: dataclasses.replace(cell, overlays=()) for name, cell in trained.items()},
        compare=tuple(pair for pair in experiment.compare if not names_one_of(pair, left)),
        video=dataclasses.replace(experiment.video, overlays=()),
        overlays=overlays,
        results=experiment.results.with_name(f"{experiment.results.name}-{size}"),
    )


def check_sizes(experiment: Experiment, overlays: Sequence[str] = ()) -> None:
    """What stands under `at` would be used with its overlay, and only then be found wrong.

    Raises:
        UserError: a size is none of the `overlays`, none that the experiment names and none beside these, or has
            unknown flags.
    """
    named = {Path(overlay) for overlay in overlays} | {
        Path(file)
        for each in (experiment, *(r for _, r, _ in _recipes(experiment)))
        for file in each.overlays
    }
    beside = (file for folder in {file.parent for file in named} for file in folder.glob("*.yaml"))
    sizes = {file.stem for file in (*named, *beside)}
    for name, recipe, schema in _recipes(experiment):
        for size, flags in recipe.at.items():
            if named and size not in sizes:
                raise UserError(
                    f"{experiment.name}: {name}.at names the size '{size}'{cli.nearest(size, sizes)}; a size is named "
                    f"like its overlay, here {', '.join(sorted(map(str, named)))}"
                )
            for flag in flags:
                known = cli.known_keys(EvaluateConfig if flag.startswith(EVALUATION) else schema)
                if (key := flag.removeprefix(EVALUATION)) not in known:
                    raise UserError(
                        f"{experiment.name}: {name}.at.{size}: unknown key '{flag}'{cli.nearest(key, known)}"
                    )


def _recipes(experiment: Experiment) -> list[tuple[str, Recipe, type]]:
    """All recipes, by their place in the file, and the settings that they are about."""
    return [
        *((f"cells.{name}", cell, TrainPolicyConfig) for name, cell in experiment.cells.items()),
        ("video", experiment.video, TrainVideoConfig),
        ("rollouts", experiment.rollouts, CollectConfig),
        ("video_rollouts", experiment.video_rollouts, CollectConfig),
        ("evaluate", experiment.evaluate, EvaluateConfig),
    ]
