"""All checks of data, source by source: what cannot be read is a finding like any other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from vidpara.check_actions import check_actions
from vidpara.cli import UserError
from vidpara.config import CheckConfig, DataConfig
from vidpara.data import headers
from vidpara.data.clips import long_enough
from vidpara.data.episode import Episode, readable
from vidpara.data.finding import Finding
from vidpara.data.source_file import Source, sources_of
from vidpara.data.sources import check_settings, of_tasks, on_clock, read_source, together
from vidpara.data.split import split, workspace
from vidpara.data.verify import verify
from vidpara.types import Workspace

SHOWN = 5
"""What cannot be read is named so many times, and counted."""


def check_each(config: CheckConfig) -> Iterator[tuple[Source, list[Episode], Iterator[Finding]]]:
    """Each source with the episodes of it that can be read, and its findings as they come.

    Raises:
        UserError: `data.rollouts` names no sources, or a number is below 0.
    """
    if min(config.decode, config.replay, config.demos) < 0:
        raise UserError("--decode, --replay and --demos say how many episodes; give 0 or more")
    check_settings(config.data)
    for source in sources_of(config.data):
        unreadable: list[UserError] = []
        try:
            episodes = read_source(source, config.data, unreadable)
        except UserError as error:
            episodes = []
            unreadable.append(error)
        yield source, episodes, _check(source, episodes, unreadable, config)


def check_space(episodes: list[Episode], config: DataConfig) -> Workspace | Finding:
    """The workspace of episodes of which some have labels, or why there is none."""
    try:
        return workspace(episodes, config.workspace)
    except UserError as error:
        return Finding("workspace", "error", str(error), "no policy trains in it")


def check_all(episodes: list[Episode], config: DataConfig) -> tuple[list[Episode], list[Finding]]:
    """The dataset that training would see, empty if the sources do not go together."""
    try:
        whole = together(episodes, config)
    except UserError as error:
        return [], [Finding("together", "error", str(error), "no training takes these sources as they are")]
    short: list[UserError] = []
    found = list(readable((partial(long_enough, episode, config.clip) for episode in whole), short))
    if short:
        said = f"{len(short)} of {len(whole)} episodes are shorter than a clip, first {short[0]}"
        return found, [Finding("length", "error", said), *_divided(found, config)]
    said = f"the shortest of {len(whole)} episodes has {min(map(len, whole))} frames"
    return whole, [Finding("length", "ok", said), *_divided(found, config)]


def _divided(episodes: list[Episode], config: DataConfig) -> Iterator[Finding]:
    """Why a training with these settings would refuse them, which other settings may mend."""
    try:
        split(episodes, config)
    except UserError as error:
        yield Finding("split", "warning", f"a training with these settings refuses them: {error}")


def _check(
    source: Source, episodes: list[Episode], unreadable: Sequence[UserError], config: CheckConfig
) -> Iterator[Finding]:
    yield reading(episodes, unreadable)
    of_use = of_tasks(episodes, config.data.tasks)
    if not of_use:
        return
    yield from headers.check(of_use)
    yield from verify(on_clock(of_use, config.data.fps), config.decode)
    yield from check_actions(source, of_use, config.replay)  # on the clock of the commands


def reading(episodes: Sequence[Episode], unreadable: Sequence[UserError]) -> Finding:
    """Whether metadata and numbers of all episodes can be read."""
    if not unreadable:
        return Finding("reading", "ok", f"{len(episodes)} episodes")
    shown = "; ".join(str(error) for error in unreadable[:SHOWN])
    more = f"; and {len(unreadable) - SHOWN} more" if len(unreadable) > SHOWN else ""
    fix = "mend or remove them; --data.on_error skip trains without what cannot be read"
    return Finding(
        "reading", "error", f"{len(unreadable)} cannot be read, {len(episodes)} can: {shown}{more}", fix
    )
