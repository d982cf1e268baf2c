"""What an experiment file may say."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vidpara import cli
from vidpara.cli import UserError

EVALUATION = "evaluate."
"""Prefix of a cell's flags that are meant for its evaluation."""
NUMBER = re.compile(r"[-+]?\d+(\.\d*)?e[-+]?\d+", re.IGNORECASE)
"""A number that YAML 1.1 takes for a word: 1e-3, which has no point or no sign."""


@dataclass(frozen=True)
class Recipe:
    """YAML files and flags of one stage.

    `overlays` follow the files, a training's in the place of the experiment's; those of rollouts and `evaluate`, of
    which the experiment's say nothing, hold at every size. `at` has flags for a size, which is named like its overlay:
    they hold where that overlay is used (`pocket` with configs/pocket.yaml) and win over `set`.
    """

    files: tuple[str, ...] = ()
    set: Mapping[str, Any] = field(default_factory=dict)
    overlays: tuple[str, ...] = ()
    at: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def flags(self, overlays: Sequence[str]) -> dict[str, Any]:
        """`set`, and what is set at the size of the overlays in use."""
        sizes = [self.at.get(Path(overlay).stem, {}) for overlay in overlays]
        return {key: value for flags in (self.set, *sizes) for key, value in flags.items()}


@dataclass(frozen=True)
class CellRecipe(Recipe):
    """A policy's training and, with the prefix `evaluate.`, what is special about its evaluation.

    `sweep` maps flags to lists of values, whose product becomes as many cells. `policy` names a finished policy, which
    is evaluated as it is, so all its flags have the prefix.
    """

    sweep: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    policy: str = ""


@dataclass(frozen=True)
class Experiment:
    """An experiment file. `overlays` follow every training's own files and say its size; `set` and `sweep` are common
    to all trained cells, whose own `set` and `sweep` win; a swept value wins over what a cell has `at` a size. Settings
    may be nested, as in other YAML files.

    With `rollouts` the demonstrations are collected first, otherwise those that the configurations name are used. Stage
    one sees those of `video_rollouts`, if there are any, in the place of its policies': more of the world, say, than
    they are shown actions of.
    `tests` are evaluations, by name: flags that each adds to `evaluate`; every policy takes all of them. `compare`
    names pairs for McNemar's test: two cells as the results call them, or two of `cells`, for every combination of
    swept values and tests that both have. `title`, `notes` and `pictures` are for the page. In a file `policies` may
    choose among the (included) cells.
    """

    name: str
    cells: Mapping[str, CellRecipe]
    evaluate: Recipe
    rollouts: Recipe = field(default_factory=Recipe)
    video_rollouts: Recipe = field(default_factory=Recipe)
    video: Recipe = field(default_factory=Recipe)
    overlays: tuple[str, ...] = ()
    set: Mapping[str, Any] = field(default_factory=dict)
    sweep: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    tests: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    compare: tuple[tuple[str, str], ...] = ()
    runs: Path = Path("runs")
    results: Path = Path("results")
    data: Path = Path("data")
    title: str = ""
    notes: tuple[str, ...] = ()
    pictures: tuple[Path, ...] = ()


def read(path: Path) -> Experiment:
    """Read an experiment file; `runs` and `results` are folders named like it where the file does not say.

    Files under `include` come first; what this file says of a key replaces what they say of it.

    Raises:
        UserError: it is missing, not YAML, has unknown keys or values of another kind, lacks cells or an evaluation, or
            tells a finished policy what only a training can be told.
    """
    tree = {"name": path.stem, **_included(path)}
    _known_keys(Experiment, {key: tree[key] for key in tree if key != "policies"}, path, "the file")
    for key in ("name", "title", "runs", "results", "data"):
        if not isinstance(tree.get(key, ""), str):
            raise UserError(f"{path}: {key} holds {tree[key]!r}, expected a word; put it in quotes")
    tree["compare"] = tree.get("compare") or ()
    for key in ("cells", "evaluate"):
        if not tree.get(key):
            raise UserError(
                f"{path} has no '{key}'; an experiment names its cells and how they are evaluated"
            )
    cells = _mapping(tree["cells"], path, "cells")
    if chosen := _words(tree.pop("policies", None) or (), path, "policies"):
        tree |= _only(chosen, cells, tree["compare"], path)
    for key in ("evaluate", "rollouts", "video_rollouts", "video"):
        tree[key] = _recipe(Recipe, tree.get(key, {}), path, key)
        if tree.get(key) != Recipe() and key != "evaluate" and not tree[key].files:
            raise UserError(f"{path}: {key} names no 'files'; give the YAML files of its stage")
    tree["cells"] = {
        name: _recipe(CellRecipe, value, path, f"cells.{name}") for name, value in tree["cells"].items()
    }
    tests = _mapping(tree.get("tests", {}), path, "tests").items()
    tree["tests"] = {name: _flags(value, path, f"tests.{name}") for name, value in tests}
    tree["sweep"] = _sweep(tree.get("sweep", {}), path, "sweep")
    tree["set"] = _flags(tree.get("set"), path, "set")
    for key in ("overlays", "notes"):
        tree[key] = _words(tree.get(key, ()), path, key)
    tree["pictures"] = tuple(map(Path, _words(tree.get("pictures", ()), path, "pictures")))
    pairs = [_words(pair, path, "compare") for pair in tree["compare"]]
    if wrong := [pair for pair in pairs if len(pair) != 2]:
        raise UserError(f"{path}: compare holds {list(wrong[0])}, expected pairs of cells")
    tree["compare"] = tuple((a, b) for a, b in pairs)
    for key in ("runs", "results"):
        tree[key] = Path(tree.get(key) or Path(key) / tree["name"])
    tree["data"] = Path(tree.get("data", "data"))
    return Experiment(**tree)


def _included(path: Path) -> dict[str, Any]:
    """The file's own keys over those of the files that it includes."""
    own = cli.read_yaml(path)
    parents = own.pop("include", None) or ()
    tree: dict[str, Any] = {}
    for parent in _words([parents] if isinstance(parents, str) else parents, path, "include"):
        shared = cli.read_yaml(path.parent / parent)
        if "include" in shared:
            raise UserError(
                f"{path} includes {parent}, which includes others itself; name all of them in {path.name}"
            )
        tree |= shared
    return tree | own


def _only(
    chosen: Sequence[str], cells: Mapping[str, Any], pairs: Sequence[Sequence[str]], path: Path
) -> dict[str, Any]:
    """The chosen cells, and the pairs that name none of the others."""
    for name in chosen:
        if name not in cells:
            raise UserError(
                f"{path}: policies names the cell '{name}'{cli.nearest(name, cells)}; the cells are {', '.join(cells)}"
            )
    left = [name for name in cells if name not in chosen]
    return {
        "cells": {name: cells[name] for name in chosen},
        "compare": [pair for pair in pairs if not names_one_of(pair, left)],
    }


def names_one_of(pair: Sequence[str], recipes: Sequence[str]) -> bool:
    """Whether the pair has one of these recipes, or one of their cells."""
    return any(f"{name}-".startswith(f"{recipe}-") for name in pair for recipe in recipes)


def _recipe(kind: type[Recipe], content: Any, path: Path, where: str) -> Any:
    tree = _mapping(content, path, where)
    _known_keys(kind, tree, path, where)
    tree["set"] = _flags(tree.get("set"), path, f"{where}.set")
    sizes = _mapping(tree.get("at", {}), path, f"{where}.at").items()
    tree["at"] = {size: _flags(flags, path, f"{where}.at.{size}") for size, flags in sizes}
    if "sweep" in tree:
        tree["sweep"] = _sweep(tree["sweep"], path, f"{where}.sweep")
    for key in ("files", "overlays"):
        tree[key] = _words(tree.get(key, ()), path, f"{where}.{key}")
    if tree.get("policy"):
        _only_judged(tree, path, where)
    return kind(**tree)


def _only_judged(tree: Mapping[str, Any], path: Path, where: str) -> None:
    """A finished policy has nothing that a training could be told."""
    if not isinstance(tree["policy"], str):
        raise UserError(f"{path}: {where}.policy holds {tree['policy']!r}, expected a policy's folder")
    flags = [
        *tree["set"],
        *tree.get("sweep", {}),
        *(flag for of_size in tree["at"].values() for flag in of_size),
    ]
    told = [*tree["files"], *tree["overlays"], *(flag for flag in flags if not flag.startswith(EVALUATION))]
    if told:
        raise UserError(
            f"{path}: {where} names a finished policy, which '{told[0]}' cannot change; leave it out, or, if it is "
            f"meant for the evaluation, write {EVALUATION}{told[0]}"
        )


def _known_keys(kind: type, tree: Mapping[str, Any], path: Path, where: str) -> None:
    known = [item.name for item in dataclasses.fields(kind)]
    for key in tree:
        if key not in known:
            raise UserError(f"{path}: {where}: unknown key '{key}'{cli.nearest(str(key), known)}")


def _mapping(content: Any, path: Path, where: str) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise UserError(f"{path}: {where} holds a {type(content).__name__}, expected a mapping")
    return content


def _flags(content: Any, path: Path, where: str) -> dict[str, Any]:
    """Settings by their flags; in the file they may be nested."""
    return cli.flatten(_mapping(content or {}, path, where))


def _sweep(content: Any, path: Path, where: str) -> dict[str, list[Any]]:
    found = _flags(content, path, where)
    for key, values in found.items():
        if not isinstance(values, list) or not values:
            raise UserError(f"{path}: {where}: {key} holds {values!r}, expected a list of values")
        if key == "data.demos" and 0 in values and len(values) > 1:
            raise UserError(
                f"{path}: {where}: data.demos holds 0, which stands for all of them and has no place on an axis; write "
                "how many they are"
            )
    return {key: [_number(value) for value in values] for key, values in found.items()}


def _number(value: Any) -> Any:
    return float(value) if isinstance(value, str) and NUMBER.fullmatch(value) else value


def _words(content: Any, path: Path, where: str) -> tuple[str, ...]:
    if not isinstance(content, list | tuple) or not all(isinstance(word, str) for word in content):
        raise UserError(f"{path}: {where} holds {content!r}, expected a list of words")
    return tuple(content)
