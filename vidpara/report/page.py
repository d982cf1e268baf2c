"""One self-contained HTML page: pictures and videos inside it, nothing fetched from anywhere."""

from __future__ import annotations

import base64
import json
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
from markupsafe import Markup

from vidpara.cli import UserError
from vidpara.config import ReportConfig
from vidpara.evaluation import recording, results
from vidpara.evaluation.results import Results
from vidpara.evaluation.statistics import Paired, wilson
from vidpara.files import write_atomically
from vidpara.report import figures, maps
from vidpara.report.runs import Run, read_run

ORDER = ("MISS", "GRASP", "PLACE")
"""Failures first: they are what one wants to see."""
MIME = {".png": "image/png", ".jpg": "image/jpeg", ".webp": "image/webp", ".mp4": "video/mp4"}


STRIP = "now, then each action step's frame under its heatmap; true end effector green, predicted red"
CAPTIONS = {
    "vis/train_strip": f"training clips: {STRIP}",
    "vis/val_strip": f"held-out clips: {STRIP}",
    "vis/imagined": f"held-out clips, and below each what the video model imagines from its first frame: {STRIP}",
    "vis/generated": "held-out clips: true above, generated from their first frame below",
}


class Media(NamedTuple):
    """A picture or video inside the page."""

    title: str
    uri: str
    video: bool


class Row(NamedTuple):
    """One policy in the table; rates and interval in percent."""

    cell: str
    color: str
    place: int
    grasp: int
    miss: int
    episodes: int
    rate: float
    low: float
    high: float
    steps: float | None
    seconds: float
    outcomes: tuple[str, ...]
    reference: str
    """The policy that it is compared with on the same starts; itself if there is none before it."""
    paired: Paired | None
    grid: Media | None
    recordings: tuple[Media, ...]


class Training(NamedTuple):
    """One run's last numbers and pictures."""

    name: str
    color: str
    steps: int
    minutes: float
    media: tuple[Media, ...]


class Duration(NamedTuple):
    """How long one part took; `share` is percent of the longest."""

    name: str
    seconds: float
    share: float


class Fact(NamedTuple):
    """Something that is so for these cells, or for all (none are named)."""

    name: str
    value: str
    cells: tuple[str, ...]


def write_page(config: ReportConfig) -> None:
    """Collect what `config` names and write the page, whole or not at all.

    Raises:
        UserError: nothing is named, something named is missing, or the baseline is none of the results.
    """
    if not config.results and not config.runs:
        raise UserError("there is nothing to report; give --results FILE.json ... or --runs FOLDER ...")
    found = [(path, results.read(path)) for path in config.results]
    known = told_apart([result.cell for _, result in found], config.results)
    found = [(path, result._replace(cell=name)) for (path, result), name in zip(found, known, strict=True)]
    if found and config.baseline and config.baseline not in known:
        raise UserError(f"--baseline {config.baseline} is none of the results' cells: {', '.join(known)}")
    baseline = config.baseline or next(iter(known), "")
    found.sort(key=lambda pair: pair[1].cell != baseline)
    runs = [read_run(folder) for folder in config.runs]
    names = told_apart([run.name for run in runs], config.runs)
    runs = [run._replace(name=name) for run, name in zip(runs, names, strict=True)]
    pictures = [media(path, path.stem.replace("_", " ")) for path in config.pictures]
    durations = _durations(config.timings)
    styles = figures.styles([*(result.cell for _, result in found), *(run.name for run in runs)])
    cells = [result for _, result in found]
    rows = [_row(path, result, cells, styles[result.cell]["color"]) for path, result in found]
    content = render(
        "page.html.jinja",
        title=config.title,
        notes=config.notes,
        rows=rows,
        alike=[
            [row for row in rows if row.reference == first]
            for first in dict.fromkeys(r.reference for r in rows)
        ],
        protocol=facts([(result.cell, result.protocol) for result in cells]),
        versions=facts([(result.cell, {**result.versions, **_made(result)}) for result in cells], {"policy"}),
        success=cells[0].protocol.get("success", "") if cells else "",
        commands=[result.command for result in cells],
        starts=_drawing(maps.start_maps(cells)) if cells and cells[0].episodes[0].start.objects else "",
        curves=_curves(runs, styles) if runs else [],
        runs=[_training(run, styles[run.name]["color"]) for run in runs],
        pictures=pictures,
        durations=durations,
    )
    write_atomically(config.output, content.encode())


def told_apart(names: Sequence[str], places: Sequence[Path]) -> list[str]:
    """The names; of those that are there twice their folder and name, or else their folder and file.

    Raises:
        UserError: these are the same, too.
    """
    found = list(names)
    for more in (names, [place.stem for place in places]):
        found = [
            f"{place.absolute().parent.name}/{other}" if found.count(name) > 1 else name
            for name, other, place in zip(found, more, places, strict=True)
        ]
    if twice := [place for name, place in zip(found, places, strict=True) if found.count(name) > 1]:
        raise UserError(
            f"{' and '.join(map(str, twice[:2]))} have one name, and so have their folders; rename one, or leave one "
            "of them out"
        )
    return found


def facts(of: Sequence[tuple[str, Mapping[str, Any]]], left_out: Container[str] = ()) -> list[Fact]:
    """What each cell says under each name, once for all that say the same."""
    found: list[Fact] = []
    for name in dict.fromkeys(name for _, said in of for name in said if name not in left_out):
        cells: dict[str, list[str]] = {}
        for cell, said in of:
            cells.setdefault(str(said.get(name, "not said")), []).append(cell)
        found += [Fact(name, value, tuple(those) if len(cells) > 1 else ()) for value, those in cells.items()]
    return found


def render(template: str, **values: Any) -> str:
    """A template beside this file, filled in."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    return environment.get_template(template).render(**values)


def media(path: Path, title: str) -> Media:
    """A file as a data URI.

    Raises:
        UserError: it is missing, or neither picture nor mp4.
    """
    if path.suffix not in MIME:
        raise UserError(f"{path} cannot be shown; expected one of {', '.join(MIME)}")
    if not path.is_file():
        raise UserError(f"{path} does not exist")
    uri = f"data:{MIME[path.suffix]};base64,{base64.b64encode(path.read_bytes()).decode()}"
    return Media(title, uri, path.suffix == ".mp4")


def _row(path: Path, found: Results, cells: Sequence[Results], color: str) -> Row:
    place, total = found.count("PLACE"), len(found.episodes)
    low, high = wilson(place, total)
    placed = [episode.steps for episode in found.episodes if episode.outcome == "PLACE"]
    reference = next(cell for cell in cells if cell is found or results.paired(cell, found))
    grid = recording.grid_path(path)
    by_outcome = sorted(range(total), key=lambda index: ORDER.index(found.episodes[index].outcome))
    films = [(index, recording.path(path, index)) for index in by_outcome]
    return Row(
        cell=found.cell,
        color=color,
        place=place,
        grasp=found.count("GRASP"),
        miss=found.count("MISS"),
        episodes=total,
        rate=100 * place / total,
        low=100 * low,
        high=100 * high,
        steps=sum(placed) / len(placed) if placed else None,
        seconds=sum(episode.seconds for episode in found.episodes) / total,
        outcomes=tuple(episode.outcome for episode in found.episodes),
        reference=reference.cell,
        paired=None if found is reference else results.compare(reference, found),
        grid=media(grid, f"{found.cell}: all recorded episodes") if grid.is_file() else None,
        recordings=tuple(
            media(film, f"episode {index}: {found.episodes[index].outcome}")
            for index, film in films
            if film.is_file()
        ),
    )


def _made(found: Results) -> dict[str, str]:
    """On which processor, and by which commits where the evaluation went on with another one."""
    parts = [
        f"{made.processor or 'unknown'}"
        + (f" ({made.episodes} episodes, {made.commit})" if found.made[1:] else "")
        for made in found.made
    ]
    return {"processor": "; ".join(parts)} if parts else {}


def _training(run: Run, color: str) -> Training:
    last = [(curve.steps[-1], curve.seconds[-1]) for curve in run.curves.values()]
    steps, seconds = max(last, default=(0, 0.0))
    shown = tuple(media(path, CAPTIONS.get(name, name)) for name, path in run.media.items())
    return Training(run.name, color, steps, seconds / 60, shown)


def _durations(path: Path | None) -> list[Duration]:
    if path is None:
        return []
    try:
        spent = {str(name): float(seconds) for name, seconds in json.loads(path.read_text()).items()}
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(f"{path} is not a JSON file of step: seconds ({error})") from error
    longest = max([*spent.values(), 1e-9])
    return [Duration(name, seconds, 100 * seconds / longest) for name, seconds in spent.items()]


def _curves(runs: Sequence[Run], styles: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, Markup]]:
    return [
        ("by step", _drawing(figures.curves(runs, "steps", styles))),
        ("by training time", _drawing(figures.curves(runs, "minutes", styles))),
    ]


def _drawing(figure: Any) -> Markup:
    return Markup(figures.svg(figure))  # our own drawing, no user's text that could hold markup
