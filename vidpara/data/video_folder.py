"""A folder of videos, at any depth -> episodes without actions."""

from __future__ import annotations

from pathlib import Path

from vidpara.cli import UserError
from vidpara.data.episode import Episode, OnError, readable, video_only
from vidpara.data.video import Decoder, VideoFrames, frame_times

SUFFIXES = (".avi", ".mkv", ".mp4", ".webm")


def videos_in(folder: Path) -> list[Path]:
    """The folder's videos, by name; hidden files are left alone."""
    found = (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    return sorted(path for path in found if not path.name.startswith("."))


def read_videos(
    folder: Path, size: tuple[int, int] | None, decoder: Decoder, on_error: OnError = "error"
) -> list[Episode]:
    """One episode a video, its images resized to `size` rows and columns.

    Raises:
        UserError: there is no video, or one cannot be read.
    """
    files = videos_in(folder)
    if not files:
        raise UserError(f"{folder} holds no video ({', '.join(SUFFIXES)}); set --data.rollouts")

    def read(file: Path) -> Episode:
        times, stored = frame_times(file)
        name = file.relative_to(folder).as_posix()
        return video_only(folder, name, VideoFrames(file, name, times, decoder=decoder), times, stored, size)

    return list(readable(files, read, on_error))
