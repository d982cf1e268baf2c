"""What video files say of themselves against what the episodes expect of them, without decoding them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vidpara.cli import UserError
from vidpara.data.ahead import ahead
from vidpara.data.episode import Episode
from vidpara.data.finding import Finding
from vidpara.data.video import Header, VideoFrames, header, upright_size


def check(episodes: Sequence[Episode]) -> list[Finding]:
    """One finding on all videos of a source's episodes; none where frames are stored otherwise.

    Training opens a video when its frames are encoded; this opens every one now.
    """
    videos = {episode.name: frames for episode in episodes if (frames := _video(episode))}
    if not videos:
        return []
    files = list(dict.fromkeys(video.file for video in videos.values()))
    headers = dict(zip(files, (each.result() for each in ahead(_header, files)), strict=True))
    of = {episode.name: episode for episode in episodes}
    found = {name: _wrong(of[name], video, headers[video.file]) for name, video in videos.items()}
    wrong = {name: why for name, why in found.items() if why}
    if not wrong:
        return [Finding("videos", "ok", f"{len(files)} files have the lengths and sizes that are expected")]
    name, why = next(iter(wrong.items()))
    return [
        Finding(
            "videos", "error", f"{len(wrong)} of {len(videos)} episodes have no whole video, first {name}: {why}",
            "copy the files anew; --data.on_error skip trains without what cannot be read",
        )
    ]  # fmt: skip


def _video(episode: Episode) -> VideoFrames | None:
    return episode.origin if isinstance(episode.origin, VideoFrames) else None


def _header(file: Path) -> Header | UserError:
    try:
        return header(file)
    except UserError as error:
        return error


def _wrong(episode: Episode, video: VideoFrames, found: Header | UserError) -> str:
    """What is wrong; empty if nothing is."""
    if isinstance(found, UserError):
        return str(found)
    if video.times[-1] > found.end + video.tolerance:
        return f"{video.file} ends at {found.end:.3f} s, the last frame is wanted at {video.times[-1]:.3f} s"
    if found.size == episode.stored_size:
        return ""
    try:
        size = upright_size(video.file)  # which a phone's header does not say
    except UserError as error:
        return str(error)
    if size != episode.stored_size:
        return f"{video.file} has {size} rows and columns, the metadata say {episode.stored_size}"
    return ""
