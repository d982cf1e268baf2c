"""Which episodes stage one trained on, so that stage two can say if it validates on some of them.

Who is held out depends on the sources: a task's share of one dataset is another one beside a second dataset.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path

from vidpara.data.episode import Episode
from vidpara.files import write_atomically

FILE = "trained_on.txt"
"""In the run folder: a digest a line, which says nothing to others of where the data lay."""


def note_seen(run: Path, episodes: Sequence[Episode]) -> None:
    """Keep in `run` which episodes it was trained on."""
    write_atomically(run / FILE, "".join(f"{_digest(each)}\n" for each in episodes).encode())


def warn_of_seen(run: Path, held_out: Sequence[Episode]) -> None:
    """Say on stderr how many of the episodes that are held out `run` was trained on. Runs without a note, and files
    that have moved since, are not known of.
    """
    note = run / FILE
    seen = set(note.read_text().split()) if note.is_file() else set()
    if count := sum(_digest(each) in seen for each in held_out):
        print(
            f"{count} of the {len(held_out)} demos that are held out were trained on in {run}: validation flatters the "
            "video; to hold out the same ones, give both stages the same data and --data.validation_demos",
            file=sys.stderr,
        )


def _digest(episode: Episode) -> str:
    """Of the file and the part of it; an episode's name may begin with its file's."""
    part = episode.name.rsplit("/", 1)[-1]
    return hashlib.sha256(f"{episode.origin.file.resolve()} {part}".encode()).hexdigest()[:16]
