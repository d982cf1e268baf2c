"""An experiment -> cells, and the stage commands that each cell needs.

What a command's settings resolve to, the rollouts' content and the steps before it are hashed into its product's place:
a finished step is never run twice, a changed one never taken for the old one, and cells share what they have in common.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from vidpara import cli
from vidpara.cli import UserError
from vidpara.config import CheckConfig, CollectConfig, EvaluateConfig, TrainPolicyConfig, TrainVideoConfig
from vidpara.config.groups import BUILT, SEEN, SHOWN
from vidpara.data.finding import PASSED
from vidpara.experiment import keys
from vidpara.experiment.declare import EVALUATION, CellRecipe, Experiment, Recipe
from vidpara.experiment.sizes import check_sizes, resized

SCHEMAS: dict[str, type] = {
    "collect_rollouts": CollectConfig, "check_data": CheckConfig, "train_video": TrainVideoConfig,
    "train_policy": TrainPolicyConfig, "evaluate_policy": EvaluateConfig,
}  # fmt: skip


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
    pairs: tuple[tuple[str, str], ...] = ()
    """Names of cells that are compared."""


def plan(experiment: Experiment, overlays: Sequence[str] = ()) -> Plan:
    """Cells and steps of an experiment. `overlays` replace the file's own; the results go to a folder named after them.

    Raises:
        UserError: a cell's files, flags or sizes do not fit, it says nothing of the size that `overlays` are, `compare`
            names no cell, two cells have one name or are one training, or a picture for the page is missing.
    """
    check_sizes(experiment, overlays)
    if overlays:
        experiment = resized(experiment, tuple(overlays))
    steps: dict[str, Step] = {}
    cells = []
    planner = _Planner(experiment)
    for base, recipe in experiment.cells.items():
        shared = {} if recipe.policy else experiment.sweep
        others = {key: values for key, values in shared.items() if key not in recipe.set}
        sweep = _product({**others, **recipe.sweep})
        for swept, test in itertools.product(sweep, experiment.tests or ("",)):
            name = f"{base}{_suffix(swept)}{test and f'-{test}'}"
            found = planner.cell(name, base, recipe, swept, test)
            steps |= {step.name: step for step in found}
            result = experiment.results / f"{name}.json"
            cells.append(Cell(name, base, swept, test, tuple(step.name for step in found), result))
    _check(experiment, cells, steps)
    if planner.collected and planner.collected.name in steps:
        first = [planner.collected, planner.check(planner.collected)]
        steps = {step.name: step for step in first} | steps
    return Plan(experiment, tuple(cells), steps, tuple(_pairs(experiment, cells)))


def _check(experiment: Experiment, cells: Sequence[Cell], steps: Mapping[str, Step]) -> None:
    names = [cell.name for cell in cells]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UserError(
            f"{experiment.name} has two cells called '{twice[0]}'; rename one, or sweep other values"
        )
    trained: dict[str, str] = {}
    for step in steps.values():
        if step.stage == "train_policy" and (other := trained.setdefault(step.key, step.name)) != step.name:
            raise UserError(f"{experiment.name}: '{other}' and '{step.name}' are the same; drop one")
    if missing := [picture for picture in experiment.pictures if not picture.is_file()]:
        raise UserError(f"{experiment.name}: the picture {missing[0]} does not exist")


def _pairs(experiment: Experiment, cells: Sequence[Cell]) -> Iterator[tuple[str, str]]:
    """What `compare` says: a cell's name means that cell, a recipe's all its cells, of which those are paired that
    agree in their test and in the swept values that both have.
    """
    recipes = experiment.cells.keys()
    of = {name: [cell for cell in cells if cell.recipe == name] for name in recipes}
    by_name = {cell.name: [cell] for cell in cells} | of
    for a, b in experiment.compare:
        for name in (a, b):
            if name not in by_name:
                raise UserError(
                    f"{experiment.name}: compare names the cell '{name}'{cli.nearest(name, by_name)}; the cells are "
                    f"{', '.join(by_name)}"
                )
        both_cells = a not in recipes and b not in recipes
        for one, other in itertools.product(by_name[a], by_name[b]):
            shared = one.swept.keys() & other.swept.keys()
            alike = one.test == other.test and all(one.swept[key] == other.swept[key] for key in shared)
            if one is not other and (both_cells or alike):
                yield one.name, other.name


class _Planner:
    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment
        self._loaded: dict[tuple[str, ...], Any] = {}
        self._videos: dict[str, str] = {}
        self.collected = self._collection("rollouts", experiment.rollouts)
        self.filmed = self._collection("video rollouts", experiment.video_rollouts) or self.collected

    def cell(
        self, name: str, base: str, recipe: CellRecipe, swept: Mapping[str, Any], test: str
    ) -> list[Step]:
        """The steps of one cell. Cells that differ in their evaluation alone share the training."""
        shared = {} if recipe.policy else self.experiment.set
        flags = {**shared, **recipe.flags(self._overlays(recipe)), **swept}
        judging = {k.removeprefix(EVALUATION): v for k, v in flags.items() if k.startswith(EVALUATION)}
        training = {k: v for k, v in flags.items() if not k.startswith(EVALUATION)}
        own = {k: v for k, v in swept.items() if not k.startswith(EVALUATION)}
        trained = [] if recipe.policy else self._training(f"{base}{_suffix(own)}", recipe, training)
        folder = recipe.policy or str(trained[-1].folder)
        judge = self.experiment.evaluate
        settings = {**judge.flags(self._sizes(judge)), **self.experiment.tests.get(test, {}), **judging}
        # what cells have in common is resolved once
        words = (*judge.files, *judge.overlays, *cli.flags(settings))
        content = keys.digest_folder(Path(recipe.policy)) if recipe.policy else ""
        key = self._key("evaluate_policy", words, name, trained[-1:], content)
        place = self.experiment.runs / key / f"{name}.json"
        words = (*words, "--policy", folder, "--cell", name, "--output", str(place))
        held_out = self._load("evaluate_policy", words, name).held_out
        seen = [self.collected] if held_out and self.collected else []
        needs = tuple(step.name for step in (*seen, *trained[-1:]))
        log = place.with_suffix(".log")
        return [*trained, Step(f"{name} evaluate", "evaluate_policy", words, key, needs, place, log)]

    def _training(self, name: str, recipe: CellRecipe, settings: Mapping[str, Any]) -> list[Step]:
        """The steps up to the policy: rollouts, and stage one where the recipe starts from it and names no finished
        one (`video_run`).
        """
        before = [self.collected] if self.collected else []
        filmed = [self.filmed] if self.filmed else []
        words = (*recipe.files, *self._overlays(recipe), *cli.flags(settings), *_rollouts(before))
        if self._load("train_policy", words, name).video_run is not None and "video_run" not in settings:
            video = self._video(name, words, settings, filmed)
            policy = self._policy(name, words, [*before, video])
            return [*dict.fromkeys([*before, *filmed]), video, policy]
        return [*before, self._policy(name, words, before)]

    def _policy(self, name: str, words: tuple[str, ...], needs: Sequence[Step]) -> Step:
        return self._run(name, "train_policy", words, needs, "workspace.json")

    def _video(
        self, policy: str, its_words: Sequence[str], settings: Mapping[str, Any], filmed: Sequence[Step]
    ) -> Step:
        """Stage one on what was `filmed` for it, or on the data of its policy, unless it says otherwise, and with the
        policy's seed and sizes.
        """
        recipe = self.experiment.video
        if not recipe.files:
            raise UserError(f"{policy} starts from stage one: add video.files to {self.experiment.name}")
        overlays = self._overlays(recipe)
        shown = {
            key: value for key, value in settings.items() if key in SHOWN or key.startswith("data.lerobot.")
        }
        shared = {key: value for key, value in settings.items() if key in SEEN + BUILT}
        flags = cli.flags({**shown, **recipe.flags(overlays), **shared})
        words = (*recipe.files, *overlays, *flags, *_rollouts(filmed))
        name = f"video{_suffix({key: shared[key] for key in shared if key in BUILT and shared[key]})}"
        self._agree(policy, its_words, words)
        key = self._key("train_video", words, name, filmed)
        if self._videos.setdefault(name, key) != key:
            name = f"{name}-{key[:4]}"  # the same size on other data
        return self._run(name, "train_video", words, filmed, "autoencoder")

    def _agree(self, policy: str, its_words: Sequence[str], video_words: Sequence[str]) -> None:
        """A policy refuses a stage one of other clips, but only once that is trained."""
        ours, theirs = (
            cli.flatten(dataclasses.asdict(self._load(stage, words, policy)))
            for stage, words in (("train_policy", its_words), ("train_video", video_words))
        )
        for key in SEEN:
            if ours[key] != theirs[key]:
                raise UserError(
                    f"{policy}: {key} is {ours[key]}, in its stage one {theirs[key]}; make them equal (what stands in "
                    "`set` or `overlays` holds for both)"
                )

    def _overlays(self, recipe: Recipe) -> tuple[str, ...]:
        return recipe.overlays or self.experiment.overlays

    def _sizes(self, recipe: Recipe) -> tuple[str, ...]:
        """What `at` may name, of a stage that has its own overlays beside the experiment's."""
        return (*self.experiment.overlays, *recipe.overlays)

    def _run(self, name: str, stage: str, words: tuple[str, ...], needs: Sequence[Step], last: str) -> Step:
        """A training; `last` is what its stage writes at the very end."""
        key = self._key(stage, words, name, needs)
        folder = self.experiment.runs / key / name
        label = name if stage == "train_video" else f"{name} train"
        cache = str(self.experiment.runs / "latents")
        stage_one = [str(step.folder) for step in needs if step.stage == "train_video"]
        from_video = ("--video_run", *stage_one) if stage_one else ()
        words = (*words, *from_video, "--run", str(folder), "--data.cache", cache)
        log = Path(f"{folder}.log")  # with_suffix would cut a swept 0.5 off
        return Step(label, stage, words, key, tuple(step.name for step in needs), folder / last, log)

    def _collection(self, name: str, recipe: Recipe) -> Step | None:
        if not recipe.files:
            return None
        words = (*recipe.files, *recipe.overlays, *cli.flags(recipe.flags(self._sizes(recipe))))
        key = self._key("collect_rollouts", words, name, [])
        file = self.experiment.data / f"{Path(recipe.files[0]).stem}-{key}.hdf5"
        words = (*words, "--output", str(file))
        return Step(name, "collect_rollouts", words, key, (), file, file.with_suffix(".log"), whole=True)

    def check(self, collected: Step) -> Step:
        """The pictures that tell whether the collected numbers and pixels agree."""
        folder = self.experiment.runs / collected.key / "check"
        words = (*_rollouts([collected]), "--output", str(folder))
        self._load("check_data", words, "check")
        return Step(
            "check", "check_data", words, collected.key, (collected.name,), folder / PASSED,
            folder.with_suffix(".log"),
        )  # fmt: skip

    def _key(
        self, stage: str, words: Sequence[str], name: str, needs: Sequence[Step], content: str = ""
    ) -> str:
        config = self._load(stage, words, name)
        given = stage == "train_policy" and not any(step.stage == "train_video" for step in needs)
        collected = any(step.stage == "collect_rollouts" for step in needs)
        contents = keys.contents(config, collected=collected, given=given)
        return keys.key(stage, config, [step.key for step in needs], [*contents, content])

    def _load(self, stage: str, words: Sequence[str], name: str) -> Any:
        """The settings that a command's words resolve to; cells have many commands in common."""
        words = tuple(words)
        if (stage, *words) not in self._loaded:
            try:
                self._loaded[stage, *words] = cli.load(SCHEMAS[stage], words)
            except UserError as error:
                raise UserError(f"{name}: {error}") from error
        return self._loaded[stage, *words]


def _rollouts(collected: Sequence[Step]) -> tuple[str, ...]:
    return ("--data.rollouts", *(str(step.product) for step in collected)) if collected else ()


def _product(sweep: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
    """The flags of every combination of swept values."""
    for values in itertools.product(*sweep.values()):
        yield dict(zip(sweep, values, strict=True))


def _suffix(swept: Mapping[str, Any]) -> str:
    """What swept values add to a recipe's name, which names files, too."""
    short = {key: "_".join(map(str, v)) if isinstance(v, list) else str(v) for key, v in swept.items()}
    return "".join(
        f"-{short[key]}" if isinstance(value, str) else f"-{key.rpartition('.')[2]}{short[key]}"
        for key, value in swept.items()
    ).replace("/", "_")
