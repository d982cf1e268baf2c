"""A folder of videos, at any depth -> episodes without actions."""

from __future__ import annotations

import os
from pathlib import Path

from vidpara.cli import UserError
from vidpara.data.ahead import ahead
from vidpara.data.episode import Episode, OnError, once, readable, video_only
from vidpara.data.video import Decoder, VideoFrames, frame_times
from vidpara.data.video_index import Known, VideoIndex

SUFFIXES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".webm")


def videos_in(folder: Path) -> list[Path]:
    """The folder's videos, by name; hidden files are left alone."""
    found, seen = [], set()
    for here, folders, names in os.walk(folder, followlinks=True):
        if (place := os.path.realpath(here)) in seen:  # links may lead in a circle
            folders.clear()
            continue
        seen.add(place)
        found += [Path(here, name) for name in names if not name.startswith(".")]
    return once(path for path in found if path.suffix.lower() in SUFFIXES and path.is_file())


def read_videos(
    folder: Path,
    size: tuple[int, int] | None,
    decoder: Decoder,
    cache: Path,
    on_error: OnError = "error",
    source: Path | None = None,
) -> list[Episode]:
    """One episode a video, its images resized to `size` rows and columns. What the files say of themselves is kept in
    `cache`, so that the next start opens new and changed files only. They are those of `source`, by default the folder.

    Raises:
        UserError: there is no video, or one cannot be read.
    """
    files = videos_in(folder)
    if not files:
        raise UserError(f"{folder} holds no video ({', '.join(SUFFIXES)}); set --data.rollouts")
    index = VideoIndex(folder, cache)

    def read(file: Path) -> Known:
        return index.get(file) or index.add(file, *frame_times(file))

    def episode(known: Known) -> Episode:
        frames = VideoFrames(folder / known.name, known.name, known.times, decoder=decoder)
        return video_only(source or folder, known.name, frames, known.times, known.size, size)

    try:
        return [episode(known) for known in readable((f.result for f in ahead(read, files)), on_error)]
    finally:
        index.save()
