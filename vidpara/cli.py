"""Configuration from the command line: a YAML file is a command line in a file, and the later value wins.

    python stages/train_policy.py configs/policy/two_stage.yaml configs/pocket.yaml --optimizer.lr 3e-4

The first file must fit the stage. The files after it are overlays: they may also hold settings of other
stages, which are passed over, so that one overlay serves the whole job.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import errno
import functools
import inspect
import io
import itertools
import json
import os
import select
import sys
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import IO, Any, TypeVar

import tyro
import yaml

from vidpara import config as settings
from vidpara.config.bounds import BOUNDS
from vidpara.config.groups import RETIRED

C = TypeVar("C")


class UserError(Exception):
    """Bad input. The message says what was found, what was expected and what to change, in one line."""


class MissingError(UserError):
    """Something that need not be there is not: a package that is an extra, or data that a file may go without."""


def load(schema: type[C], argv: Sequence[str]) -> C:
    """Read leading YAML paths, then flags, into `schema`; later values win.

    Raises:
        UserError: a file is missing or not a mapping, or a key, flag or value does not fit, or is out of bounds.
    """
    files = list(itertools.takewhile(lambda word: not word.startswith("-"), argv))
    known = known_keys(schema)
    merged: dict[str, Any] = {}
    for position, path in enumerate(files):
        accepted = known | _keys_of_all_stages() if position else known
        merged |= {key: value for key, value in _read(Path(path), accepted) if key in known}
    given = flags(merged)
    _only_known(argv[len(files) :], known)
    words = [*given, *map(_spelled, argv[len(files) :])]
    return _in_bounds(_parse(schema, words, use_underscores=True, config=(tyro.conf.FlagConversionOff,)))


def dump(config: Any) -> str:
    """The resolved configuration as YAML; `load` reads it back to an equal value."""
    return yaml.safe_dump(json.loads(json.dumps(dataclasses.asdict(config), default=str)), sort_keys=False)


def main(schema: type[C], run: Callable[[C, list[str]], None], argv: Sequence[str] | None = None) -> None:
    """Entry of every stage: `run(config, argv)`, with the errors of `reported`."""
    argv = list(sys.argv[1:] if argv is None else argv)
    with reported():
        run(load(schema, argv), argv)


def call(function: Callable[..., None], argv: Sequence[str] | None = None) -> None:
    """Entry of a command whose arguments are the parameters of `function`, with the errors of `reported`."""

    @functools.wraps(function)
    def given(*args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return args, kwargs

    words = list(sys.argv[1:] if argv is None else argv)
    with reported():
        _only_known(words, inspect.signature(function).parameters.keys(), negated="no_")
        args, kwargs = _parse(given, words)
        function(*args, **kwargs)


@contextlib.contextmanager
def reported() -> Iterator[None]:
    """Bad input becomes one line on stderr and exit status 2, an interrupt one line and status 130."""
    try:
        yield
    except KeyboardInterrupt:
        print("interrupted; the same command goes on where this one stopped", file=sys.stderr)
        raise SystemExit(130) from None
    except BrokenPipeError:
        unread = [stream for stream in (sys.stdout, sys.stderr) if _unread(stream)]
        if not unread:  # some other pipe
            raise
        for stream in unread:  # whoever read the output, such as `head`, has had enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        raise SystemExit(0) from None
    except Exception as error:
        if (line := _one_line(error)) is None:
            raise
        print(f"error: {line}", file=sys.stderr)
        raise SystemExit(2) from None


def _unread(stream: IO[str]) -> bool:
    """Whether a stream is a pipe that nobody reads any more."""
    poll = select.poll()
    poll.register(stream.fileno(), 0)
    return any(events & select.POLLERR for _, events in poll.poll(0))


def flags(values: Mapping[str, Any]) -> list[str]:
    """{"trainer.steps": 100} -> ["--trainer.steps", "100"]; mappings may be nested, a list becomes several words."""
    return [
        word
        for key, value in flatten(values).items()
        for word in (f"--{key}", *map(str, value if isinstance(value, list) else [value]))
    ]


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"trainer": {"steps": 100}} -> {"trainer.steps": 100}."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping that a YAML file holds.

    Raises:
        UserError: it is missing, not YAML, or holds something else.
    """
    if not path.is_file():
        raise UserError(f"{path} does not exist; give the path of a YAML file")
    try:
        tree = yaml.safe_load(path.read_text()) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(tree, dict):
        raise UserError(f"{path} holds a {type(tree).__name__}, expected a mapping of settings")
    return tree


def nearest(key: str, known: Iterable[str], prefix: str = "") -> str:
    """The end of an error message about an unknown `key`: what may have been meant."""
    near = difflib.get_close_matches(key, list(known), n=1)
    return f"; did you mean '{prefix}{near[0]}'?" if near else ""


def _one_line(error: Exception) -> str | None:
    """What to tell the user, or None for a fault of ours, which keeps its traceback."""
    if isinstance(error, UserError):
        return " ".join(str(error).split())
    if getattr(error, "errno", None) == errno.ENOSPC or "No space left on device" in str(error):
        return "the disk is full; free some space, then give the same command again"
    if isinstance(error, OSError) and error.errno is not None:
        return f"{error.strerror}: {error.filename}" if error.filename else str(error)
    return None


def _only_known(words: Iterable[str], known: Set[str], negated: str = "") -> None:
    """Every flag among the words is one of the `known`, or of the negated ones where there are such."""
    for flag in (word.split("=", 1)[0] for word in words if word.startswith("--")):
        key = flag.removeprefix("--").replace("-", "_")
        if key not in known | {"help"} and not (negated and key.removeprefix(negated) in known):
            raise UserError(f"unknown flag '{flag}'{nearest(key, known, '--')}")


def _parse(schema: Callable[..., C], words: list[str], **options: Any) -> C:
    """tyro's parse, with its framed message folded into one line."""
    message = io.StringIO()
    try:
        with contextlib.redirect_stderr(message):
            return tyro.cli(schema, args=words, **options)
    except SystemExit as stop:
        if not stop.code:
            raise
        body = (line.strip("│ ") for line in message.getvalue().splitlines()[1:])  # below the title
        rule_or_text = itertools.groupby(body, key=lambda line: not line.strip("─╰╯-"))
        found = next((" ".join(lines) for is_rule, lines in rule_or_text if not is_rule), "bad arguments")
        raise UserError(f"{found.rstrip('.')}; see --help") from None


def _spelled(word: str) -> str:
    """YAML's true and false as tyro expects them."""
    return {"true": "True", "false": "False"}.get(word, word)


def _in_bounds(config: C) -> C:
    """The configuration itself, if its numbers are what they may be."""
    for key, value in flatten(dataclasses.asdict(config)).items():  # pyright: ignore[reportArgumentType]
        if key not in BOUNDS or value is None:
            continue
        least, most = BOUNDS[key]
        numbers = value if isinstance(value, list | tuple) else (value,)
        if not all(least <= number and (most is None or number <= most) for number in numbers):
            expected = f"at least {least}" if most is None else f"{least} to {most}"
            raise UserError(f"--{key} {' '.join(map(str, numbers))}: give {expected}")
    return config


def _read(path: Path, accepted: Set[str], includers: tuple[Path, ...] = ()) -> Iterator[tuple[str, Any]]:
    """(key, value) of a YAML file, its includes first."""
    if path.resolve() in includers:
        raise UserError(f"{includers[-1]} includes {path}, which includes it again: break the circle")
    tree = read_yaml(path)
    parents = tree.pop("include", None) or []
    for parent in [parents] if isinstance(parents, str) else parents:
        shared = accepted | _keys_of_all_stages()  # an overlay may be included, too
        yield from _read(path.parent / str(parent), shared, (*includers, path.resolve()))
    for key, value in flatten(tree).items():
        if key in RETIRED:
            continue
        if key not in accepted:
            raise UserError(f"{path}: unknown key '{key}'{nearest(key, accepted)}")
        yield key, value


@functools.cache
def known_keys(schema: type) -> frozenset[str]:
    """What may be set in a configuration: `trainer.steps`."""
    return frozenset(_keys(schema))


def _keys(schema: Any, prefix: str = "") -> Iterator[str]:
    hints = typing.get_type_hints(schema)
    for field in dataclasses.fields(schema):
        kind, name = hints[field.name], f"{prefix}{field.name}"
        yield from _keys(kind, f"{name}.") if dataclasses.is_dataclass(kind) else [name]


@functools.cache
def _keys_of_all_stages() -> frozenset[str]:
    """A stage's configuration is one that no other configuration holds."""
    schemas = {value for value in vars(settings).values() if dataclasses.is_dataclass(value)}
    held = {kind for schema in schemas for kind in typing.get_type_hints(schema).values() if kind in schemas}
    return frozenset(key for schema in schemas - held for key in _keys(schema))
