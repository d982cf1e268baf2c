"""An experiment -> cells, and the stage commands that each cell needs.

What a command's settings resolve to, the rollouts' content and the steps before it are hashed into the place of its
product. So a finished step is never run twice, a changed one is never taken for the old one, and cells share what they
have in common.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from vidpara import cli
from vidpara.cli import UserError
from vidpara.config import CheckConfig, CollectConfig, EvaluateConfig, TrainPolicyConfig, TrainVideoConfig
from vidpara.experiment.declare import CellRecipe, Experiment

SCHEMAS: dict[str, type] = {
    "collect_rollouts": CollectConfig, "check_data": CheckConfig, "train_video": TrainVideoConfig,
    "train_policy": TrainPolicyConfig, "evaluate_policy": EvaluateConfig,
}  # fmt: skip
FREE = {
    "run", "video_run", "policy", "output", "cell", "workers", "videos", "cache", "wandb", "project", "log_every",
    "validate_every", "checkpoint_every", "keep_checkpoints", "rollouts", "samples", "sample_steps", "failures",
    "plan", "push", "private", "checkpointing",
}  # fmt: skip
"""Settings that do not change a result, or that the hash takes by content instead of by path."""
EVALUATION = "evaluate."
"""Prefix of a cell's flags that are meant for its evaluation."""


class Step(NamedTuple):
    """One stage command. `key` is the hash of all that determines its result; `product` exists once it is finished."""

    name: str
    stage: str
    words: tuple[str, ...]
    key: str
    needs: tuple[str, ...]
    product: Path
    log: Path
    whole: bool = False
    """It uses all cores by itself, so nothing runs beside it."""

    @property
    def folder(self) -> Path:
        """The run folder of a training."""
        return self.product.parent


class Cell(NamedTuple):
    """One policy with one evaluation: the names of its steps, in order, and the file that its result becomes.

    `recipe` is its name in the experiment file, `swept` its own values of the flags that are swept there, `test` the
    evaluation's name there, if it has one.
    """

    name: str
    recipe: str
    swept: Mapping[str, Any]
    test: str
    steps: tuple[str, ...]
    result: Path


class Plan(NamedTuple):
    """All cells, and the steps by name: a step stands before those that need it. No cell needs the rollouts' check."""

    experiment: Experiment
    cells: tuple[Cell, ...]
    steps: Mapping[str, Step]


def plan(experiment: Experiment, overlays: Sequence[str] = ()) -> Plan:
    """Cells and steps of an experiment. `overlays` replace the file's own; the results go to a folder named after them.

    Raises:
        UserError: a cell's files or flags do not fit their stage.
    """
    if overlays:
        size = "-".join(Path(file).stem for file in overlays)
        folder = experiment.results.with_name(f"{experiment.results.name}-{size}")
        experiment = dataclasses.replace(experiment, overlays=tuple(overlays), results=folder)
    steps: dict[str, Step] = {}
    cells = []
    planner = _Planner(experiment)
    for base, recipe in experiment.cells.items():
        sweep = _product({**({} if recipe.policy else experiment.sweep), **recipe.sweep})
        for swept, test in itertools.product(sweep, experiment.tests or ("",)):
            name = f"{base}{_suffix(swept)}{test and f'-{test}'}"
            found = planner.cell(name, base, recipe, swept, test)
            steps |= {step.name: step for step in found}
            result = experiment.results / f"{name}.json"
            cells.append(Cell(name, base, swept, test, tuple(step.name for step in found), result))
    if planner.collected and planner.collected.name in steps:
        first = [planner.collected, planner.check(planner.collected)]
        steps = {step.name: step for step in first} | steps
    return Plan(experiment, tuple(cells), steps)


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


def spared(plan: Plan, cells: Collection[str]) -> set[str]:
    """Steps that need not run once the `cells` of these names have their results."""
    return plan.steps.keys() - _needed(plan, [cell for cell in plan.cells if cell.name not in cells])


def _needed(plan: Plan, cells: Sequence[Cell]) -> set[str]:
    """Steps of these cells, and those of no cell (the rollouts' check) whose own needs are among them."""
    needed = {step for cell in cells for step in cell.steps}
    of_cells = {step for cell in plan.cells for step in cell.steps}
    extra = {name for name in plan.steps.keys() - of_cells if needed.issuperset(plan.steps[name].needs)}
    return needed | extra


class _Planner:
    def __init__(self, experiment: Experiment) -> None:
        self.experiment, self.overlays = experiment, experiment.overlays
        self.collected = self._collection() if experiment.rollouts.files else None

    def cell(
        self, name: str, base: str, recipe: CellRecipe, swept: Mapping[str, Any], test: str
    ) -> list[Step]:
        """The steps of one cell. Cells that differ in their evaluation alone share the training."""
        flags = {**recipe.set, **swept}
        judging = {k.removeprefix(EVALUATION): v for k, v in flags.items() if k.startswith(EVALUATION)}
        training = {k: v for k, v in flags.items() if not k.startswith(EVALUATION)}
        own = {k: v for k, v in swept.items() if not k.startswith(EVALUATION)}
        trained = [] if recipe.policy else self._training(f"{base}{_suffix(own)}", recipe, training)
        folder = recipe.policy or str(trained[-1].folder)
        files = self.experiment.evaluate.files
        settings = {**self.experiment.evaluate.set, **self.experiment.tests.get(test, {}), **judging}
        words = (*files, *cli.flags(settings), "--policy", folder, "--cell", name)
        content = _digest_folder(Path(recipe.policy)) if recipe.policy else ""
        key = self._key("evaluate_policy", words, name, trained[-1:], content)
        place = self.experiment.runs / key / f"{name}.json"
        words = (*words, "--output", str(place))
        needs = tuple(step.name for step in trained[-1:])
        step = Step(
            f"{name} evaluate", "evaluate_policy", words, key, needs, place, place.with_suffix(".log")
        )
        return [*trained, step]

    def _training(self, name: str, recipe: CellRecipe, settings: Mapping[str, Any]) -> list[Step]:
        """The steps up to the policy: rollouts, and stage one where the recipe starts from it."""
        before = [self.collected] if self.collected else []
        words = (*recipe.files, *self.overlays, *cli.flags(settings), *self._rollouts())
        if _load("train_policy", words, name).video_run is not None:
            video = self.experiment.video
            flags = (*video.files, *self.overlays, *cli.flags(video.set), *self._rollouts())
            before.append(self._run("video", "train_video", flags, before, "autoencoder"))
            words = (*words, "--video_run", str(before[-1].folder))
        return [*before, self._run(name, "train_policy", words, before, "workspace.json")]

    def _run(self, name: str, stage: str, words: tuple[str, ...], needs: Sequence[Step], last: str) -> Step:
        """A training; `last` is what its stage writes at the very end."""
        key = self._key(stage, words, name, needs)
        folder = self.experiment.runs / key / name
        label = "video" if stage == "train_video" else f"{name} train"
        words = (*words, "--run", str(folder), "--data.cache", str(self.experiment.runs / "latents"))
        log = Path(f"{folder}.log")  # with_suffix would cut a swept 0.5 off
        return Step(label, stage, words, key, tuple(step.name for step in needs), folder / last, log)

    def _collection(self) -> Step:
        recipe = self.experiment.rollouts
        words = (*recipe.files, *cli.flags(recipe.set))
        key = self._key("collect_rollouts", words, "rollouts", [])
        file = self.experiment.data / f"{Path(recipe.files[0]).stem}-{key}.hdf5"
        words = (*words, "--output", str(file))
        return Step(
            "rollouts", "collect_rollouts", words, key, (), file, file.with_suffix(".log"), whole=True
        )

    def check(self, collected: Step) -> Step:
        """The pictures that tell whether the collected numbers and pixels agree."""
        folder = self.experiment.runs / collected.key / "check"
        words = (*self._rollouts(), "--output", str(folder))
        _load("check_data", words, "check")
        return Step(
            "check", "check_data", words, collected.key, (collected.name,), folder / "sheet.png",
            folder.with_suffix(".log"),
        )  # fmt: skip

    def _rollouts(self) -> tuple[str, ...]:
        return ("--data.rollouts", str(self.collected.product)) if self.collected else ()

    def _key(
        self, stage: str, words: Sequence[str], name: str, needs: Sequence[Step], content: str = ""
    ) -> str:
        config = _load(stage, words, name)
        files = config.data.rollouts if hasattr(config, "data") and not self.collected else ()
        determined = [stage, _changed(config), [step.key for step in needs], [*map(_digest, files), content]]
        return hashlib.sha256(json.dumps(determined, sort_keys=True, default=str).encode()).hexdigest()[:10]


def _load(stage: str, words: Sequence[str], name: str) -> Any:
    try:
        return cli.load(SCHEMAS[stage], words)
    except UserError as error:
        raise UserError(f"{name}: {error}") from error


def _changed(config: Any) -> dict[str, Any]:
    """Settings that differ from their default, so that a new setting whose default changes nothing keeps the hash."""
    found = {}
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        default = item.default_factory() if item.default_factory is not dataclasses.MISSING else item.default
        if dataclasses.is_dataclass(value):
            found[item.name] = _changed(value)
        elif value != default and item.name not in FREE:
            found[item.name] = value
    return {name: value for name, value in found.items() if value != {}}


def _digest(path: Path) -> str:
    if path.is_dir():  # a dataset of many files: their names and sizes
        files = sorted(
            (str(file.relative_to(path)), file.stat().st_size) for file in path.rglob("*") if file.is_file()
        )
        return hashlib.sha256(json.dumps(files).encode()).hexdigest()
    if not path.is_file():
        return f"missing {path}"
    modified = path.stat().st_mtime_ns
    if (path, modified) not in _known:
        with path.open("rb") as file:
            _known[path, modified] = hashlib.file_digest(file, "sha256").hexdigest()
    return _known[path, modified]


def _digest_folder(folder: Path) -> str:
    """All weights and settings of a finished policy.

    Raises:
        UserError: there is no such folder.
    """
    files = sorted(path for path in folder.rglob("*") if path.suffix in (".safetensors", ".json", ".yaml"))
    if not files:
        raise UserError(f"{folder} is not a finished policy run; give one as the cell's 'policy'")
    return " ".join(map(_digest, files))


_known: dict[tuple[Path, int], str] = {}


def _product(sweep: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
    """The flags of every combination of swept values."""
    for values in itertools.product(*sweep.values()):
        yield dict(zip(sweep, values, strict=True))


def _suffix(swept: Mapping[str, Any]) -> str:
    """What swept values add to a recipe's name."""
    return "".join(
        f"-{value}" if isinstance(value, str) else f"-{key.rpartition('.')[2]}{_short(value)}"
        for key, value in swept.items()
    )


def _short(value: Any) -> str:
    return "_".join(map(str, value)) if isinstance(value, list) else str(value)
