"""Frames of a video file by their timestamps, exactly, and without reading more of the file than they need.

A frame's time is its presentation timestamp in seconds, on the file's own clock. Variable frame rates and B-frames
need nothing special: the keyframe that is shown at or before a wanted moment is sought, and decoding goes on from there
in the order in which frames are shown.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from vidpara.cli import UserError
from vidpara.data.frames import parts
from vidpara.data.other_decoders import Decoder, by_decord, by_torchcodec
from vidpara.types import Float, UInt8

WHOLE = 0.95
"""Share of the frames that a header announces which must be there; some count one that is never shown."""
EXACT = 1e-4
"""Seconds by which the time of a frame that a file is known to hold may be off: rounding."""


class Header(NamedTuple):
    """What a video file says of itself before anything is decoded."""

    size: tuple[int, int]
    """Rows and columns, as stored."""
    end: float
    """Seconds at which the last frame's display ends; NaN where the container does not say."""


@dataclass(frozen=True)
class VideoFrames:
    """One episode's frames: those of a video file that are shown at `times` (seconds)."""

    file: Path
    name: str
    """The episode's; a file may hold several."""
    times: Float[np.ndarray, "T"]
    tolerance: float = EXACT
    decoder: Decoder = "pyav"

    def read(self, moments: Sequence[int]) -> UInt8[np.ndarray, "n h w 3"]:
        return read_frames(self.file, self.times[np.asarray(moments)], self.tolerance, self.decoder)

    def blocks(self, moments: Sequence[int], size: int) -> Iterator[UInt8[np.ndarray, "n h w 3"]]:
        if self.decoder != "pyav":
            yield from map(self.read, parts(moments, size))
            return
        images = _checked(self.file, self.times[np.asarray(moments)], self.tolerance)
        while block := list(itertools.islice(images, size)):
            yield np.stack(block)

    def fingerprint(self) -> str:
        stat = self.file.stat()
        times = hashlib.sha256(self.times.tobytes()).hexdigest()[:16]
        return f"{self.name} {self.file.name} {stat.st_size} {stat.st_mtime_ns} {times}"


def read_frames(
    file: Path, times: Float[np.ndarray, "n"], tolerance: float = EXACT, decoder: Decoder = "pyav"
) -> UInt8[np.ndarray, "n h w 3"]:
    """The frames that are shown nearest to `times` (seconds; any order, repeats allowed), upright.

    Raises:
        UserError: the file is missing or damaged, or shows no frame within `tolerance` seconds of a wanted time.
    """
    once, back = np.unique(times, return_inverse=True)
    images = np.stack(list(_checked(file, once, tolerance, decoder)))
    return images if np.array_equal(back, np.arange(len(times))) else images[back]


def _checked(
    file: Path, times: Float[np.ndarray, "n"], tolerance: float, decoder: Decoder = "pyav"
) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    """The frames at `times`, which ascend, one after another.

    Raises:
        UserError: as in `read_frames`.
    """
    match decoder:
        case "pyav":
            found = _nearest(file, times)
        case "decord":
            found = by_decord(file, _codec(file), times)
        case "torchcodec":
            found = by_torchcodec(file, frame_times(file)[0], times)
    size = None
    for wanted, (shown, image) in zip(times, found, strict=True):
        if abs(shown - wanted) > tolerance:
            raise UserError(
                f"{file}: a frame at {wanted:.4f} s is wanted, the nearest one is at {shown:.4f} s; the file is "
                "shorter than its metadata say, or they name wrong offsets: copy or export the data anew"
            )
        if image.shape[:2] != (size := size or image.shape[:2]):
            raise UserError(
                f"{file} has frames of different sizes, {sorted([size, image.shape[:2]])}; encode it anew at one size"
            )
        yield image


def header(file: Path) -> Header:
    """Size and length from the file's header.

    Raises:
        UserError: the file is missing or damaged, or holds no video.
    """
    with _open(file) as container:
        stream = _stream(file, container)
        size = (stream.codec_context.height, stream.codec_context.width)
        return Header(size, _end(container, stream))


def upright_size(file: Path) -> tuple[int, int]:
    """Rows and columns of a video's pictures, turned as the file asks; the first frame is decoded.

    Raises:
        UserError: it cannot be.
    """
    _, first = next(_nearest(file, np.zeros(1)))
    return first.shape[0], first.shape[1]


def _end(container: Any, stream: Any) -> float:
    """When the video ends by its header (seconds), NaN where that says nothing: a container's end may be that of
    another stream.
    """
    if stream.duration is not None:
        return float(((stream.start_time or 0) + stream.duration) * stream.time_base)
    if container.duration and len(container.streams) == 1:
        return container.duration / av.time_base
    return math.nan


def frame_times(file: Path) -> tuple[Float[np.ndarray, "n"], tuple[int, int]]:
    """The time of every frame (seconds, ascending) and their size when upright; only the first frame is decoded.

    Raises:
        UserError: the file is missing, damaged or empty, or holds no video.
    """
    with _open(file) as container, _damaged(file):
        stream = _stream(file, container)
        # Of each packet only this: all of a long video together are as large as its file.
        stored = [(packet.pts, packet.is_discard) for packet in container.demux(stream) if packet.size]
        shown = {pts for pts, discarded in stored if not discarded}  # those that an edit list leaves
        if None not in shown:
            ticks = np.array(sorted(shown))
        else:  # an old container that leaves the order of display to the decoder
            container.seek(0)
            ticks = np.array([_tick(frame) for frame in container.decode(stream)])
        if not len(ticks):
            raise UserError(f"{file} holds a video of no frames; remove it or copy it anew")
        times = ticks * float(stream.time_base)
        usual = float(1 / stream.average_rate) if stream.average_rate else 0.0
        steps = np.diff(times)
        gap = max(float(np.median(steps)), float(steps[-1]), usual) if len(steps) else usual or math.inf
        if len(stored) < WHOLE * stream.frames:
            raise UserError(
                f"{file} holds {len(stored)} frames, its header says {stream.frames}; it is truncated: copy it anew"
            )
        end = _end(container, stream)
        if end - times[-1] > 2.5 * gap:  # containers that may be cut anywhere, as mkv and webm
            raise UserError(
                f"{file} ends at {times[-1]:.3f} s, its header says {end:.3f} s; it is truncated: copy it anew"
            )
    _, first = next(_nearest(file, times[:1]))
    return times, (first.shape[0], first.shape[1])


def _nearest(file: Path, times: Float[np.ndarray, "n"]) -> Iterator[tuple[float, UInt8[np.ndarray, "h w 3"]]]:
    """(time, image) of the frame nearest to each of `times`, which ascend."""
    with _open(file) as container, _damaged(file):
        stream = _stream(file, container)
        tick = float(stream.time_base)
        colors = VideoReformatter()  # one for all frames: setting it up takes as long as using it
        shown: Iterator[Any] = iter(())
        before, after = None, None
        for time in times:
            wanted = time / tick
            if before is None or _keyframe_between(stream, _tick(before), wanted):
                shown = _from_keyframe(container, stream, math.floor(wanted + 0.5))
                before = after = next(shown, None)
            while after is not None and _tick(after) < wanted:
                before, after = after, next(shown, None)
            if before is None:
                raise UserError(
                    f"{file} shows nothing at {time:.4f} s; it is truncated or empty: copy it anew"
                )
            nearer = after is not None and _tick(after) - wanted < wanted - _tick(before)
            chosen: Any = after if nearer else before
            if chosen.is_corrupt:
                raise UserError(f"{file} is damaged at {_tick(chosen) * tick:.4f} s; copy it anew")
            yield _tick(chosen) * tick, _upright(chosen, colors)


def _from_keyframe(container: Any, stream: Any, wanted: int) -> Iterator[Any]:
    """Frames in the order they are shown, from a keyframe that is shown no later than tick `wanted`, or the first.

    Containers seek by the time of decoding, which with B-frames is earlier than that of display: the keyframe found may
    be shown too late, and then the one before it is sought.
    """
    target, previous = wanted, None
    while True:
        container.seek(target, stream=stream, backward=True)
        packets = container.demux(stream)
        first = next((packet for packet in packets if packet.is_keyframe and packet.size), None)
        if first is None or _tick(first) <= wanted or first.dts is None or first.dts == previous:
            break
        previous, target = first.dts, min(first.dts, target) - 1
    if first is not None:
        for packet in itertools.chain([first], packets):
            yield from packet.decode()


def _keyframe_between(stream: Any, now: int, wanted: float) -> bool:
    """Whether seeking saves decoding: a keyframe lies after tick `now` and not after `wanted`, by the file's index."""
    place = stream.index_entries.search_timestamp(math.floor(wanted), backward=True)
    return place >= 0 and stream.index_entries[place].timestamp > now


def _codec(file: Path) -> str:
    with _open(file) as container:
        return _stream(file, container).codec_context.name


def _tick(item: Any) -> int:
    """When a packet or frame is shown, in ticks of its stream; where it does not say, when it is decoded."""
    return item.pts if item.pts is not None else item.dts


def _upright(frame: Any, colors: VideoReformatter) -> UInt8[np.ndarray, "h w 3"]:
    """RGB; turned as the file asks (phones store what the sensor saw)."""
    image = colors.reformat(frame, format="rgb24", threads=1).to_ndarray()
    return np.ascontiguousarray(np.rot90(image, round(frame.rotation / 90)))


def _stream(file: Path, container: Any) -> Any:
    if not container.streams.video:
        raise UserError(f"{file} holds no video stream; copy it anew, or remove it")
    stream = container.streams.video[0]
    codec = stream.codec_context
    if codec is None:
        raise UserError(
            f"{file} holds a video of a codec that PyAV does not know; encode it anew, or copy it anew"
        )
    codec.thread_count = 1  # workers are many, cores are few
    if container.format.name == "avi" and codec.name in ("h264", "hevc") and codec.has_b_frames:
        raise UserError(
            f"{file} holds {codec.name} with B-frames in an AVI, which does not say when each is shown; put the stream "
            f"into another container: ffmpeg -fflags +genpts -i {file.name} -c copy {file.stem}.mkv, or encode it anew"
        )
    return stream


def _open(file: Path) -> Any:
    if not file.is_file():
        raise UserError(f"video {file} does not exist; copy the missing file, or set --data.rollouts")
    try:
        return av.open(str(file))
    except (av.FFmpegError, ValueError) as error:
        raise UserError(
            f"{file} is not a readable video ({error}); it may be truncated: copy it anew"
        ) from error


@contextlib.contextmanager
def _damaged(file: Path) -> Iterator[None]:
    """Turns the decoder's errors into one that names the file."""
    try:
        yield
    except av.FFmpegError as error:
        raise UserError(f"{file} cannot be decoded ({error}); copy it anew, or remove it") from error
