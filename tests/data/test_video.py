"""Frames by timestamp against a full sequential decode, for the codecs and GOPs that data come in."""

from __future__ import annotations

import contextlib
import os
import struct
import sys
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from vidpara.cli import UserError
from vidpara.data import headers
from vidpara.data import video as reader
from vidpara.data.video import VideoFrames, frame_times, header, read_frames, upright_size
from vidpara.data.video_folder import read_videos

FRAMES, SIZE = 60, (48, 64)
H264 = {"preset": "veryfast", "crf": "24"}
GOPS = (2, 10, 250)
KINDS = {
    **{f"h264 gop {n}": ("libx264", {**H264, "g": f"{n}", "bf": "0"}, "mp4") for n in GOPS},
    **{
        f"h265 gop {n}": (
            "libx265",
            {"preset": "ultrafast", "x265-params": f"log-level=none:keyint={n}:min-keyint={n}:bframes=3:pools=1"},
            "mp4",
        )
        for n in GOPS
    },
    **{
        f"av1 gop {n}": ("libsvtav1", {"g": f"{n}", "crf": "20", "preset": "8", "svtav1-params": "lp=1"}, "mp4")
        for n in GOPS
    },
    "b-frames": ("libx264", {**H264, "g": "12", "bf": "3", "x264-params": "b-pyramid=normal:scenecut=0"}, "mp4"),
    "open gop": ("libx264", {**H264, "g": "12", "bf": "3", "x264-params": "open-gop=1:scenecut=0"}, "mp4"),
    "matroska": ("libx264", {**H264, "g": "12", "bf": "3"}, "mkv"),
    "vp9": ("libvpx-vp9", {"g": "12", "deadline": "realtime", "cpu-used": "8"}, "webm"),
    "mpeg2": ("mpeg2video", {"g": "12", "bf": "2", "q:v": "4"}, "mkv"),
    "quicktime": ("libx264", {**H264, "g": "12", "bf": "3"}, "mov"),
    "avi": ("mpeg4", {"g": "12", "bf": "2"}, "avi"),
}  # fmt: skip


def picture(number: int) -> np.ndarray:
    """A square that moves over a gradient, and a bar code of the frame's number."""
    rows, columns = SIZE
    image = np.tile(np.linspace(0, 200, columns, dtype=np.uint8)[None, :, None], (rows, 1, 3))
    left = number % (columns - 8)
    image[20:28, left : left + 8] = (255, 40, 0)
    for bit in range(8):
        image[40:48, 8 * bit : 8 * bit + 8] = 255 * (number >> bit & 1)
    return image


def number_of(image: np.ndarray) -> int:
    return sum((image[42:46, 8 * bit + 2 : 8 * bit + 6].mean() > 127) << bit for bit in range(8))


@contextlib.contextmanager
def same_priority() -> Iterator[None]:
    """SVT-AV1 gives the thread that opens it real-time priority where it may (as root), and never takes it back: all
    later tests, and the processes that they start, would keep every core from everything else."""
    if not hasattr(os, "sched_getscheduler"):  # Linux has it
        yield
        return
    before = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, *before)


def write(file: Path, codec: str, options: dict[str, str], times: list[int] | None = None) -> Path:
    """Frame i shown at `times[i]` milliseconds; by default 20 frames a second."""
    with same_priority(), av.open(str(file), "w") as container:
        stream = container.add_stream(codec, rate=20, options=options)
        stream.height, stream.width, stream.pix_fmt = *SIZE, "yuv420p"
        if times:
            stream.codec_context.time_base = stream.time_base = Fraction(1, 1000)
        for number in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(picture(number), format="rgb24")
            if times:
                frame.pts, frame.time_base = times[number], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file


def copied(whole: Path, file: Path, first: int = 0, lasts: float = 0.05) -> Path:
    """The video from its frame `first` on, not encoded anew, as `ffmpeg -ss ... -c copy` cuts it; the last frame lasts
    so many seconds.
    """
    with (
        av.open(str(whole)) as source,
        av.open(str(file), "w", options={"avoid_negative_ts": "disabled"}) as cut,
    ):
        stream = source.streams.video[0]
        copy = cut.add_stream_from_template(stream)
        begin = round(first / 20 / stream.time_base)
        source.seek(begin, stream=stream)
        packets = [packet for packet in source.demux(stream) if packet.size]
        max(packets, key=lambda packet: packet.pts or 0).duration = round(lasts / stream.time_base)
        for packet in packets:
            packet.pts, packet.dts, packet.stream = (packet.pts or 0) - begin, (packet.dts or 0) - begin, copy
            cut.mux(packet)
    return file


def decoded(file: Path) -> tuple[np.ndarray, np.ndarray]:
    """(times, images) of all frames, one after the other."""
    with av.open(str(file)) as container:
        frames = list(container.decode(video=0))
    return np.array([float(f.time) for f in frames]), np.stack([f.to_ndarray(format="rgb24") for f in frames])


@pytest.fixture(scope="module", params=KINDS)
def video(request, tmp_path_factory) -> Path:
    codec, options, suffix = KINDS[request.param]
    try:
        av.codec.Codec(codec, "w")
    except av.codec.codec.UnknownCodecError:
        pytest.skip(f"PyAV cannot encode {codec} here")
    return write(tmp_path_factory.mktemp("video") / f"video.{suffix}", codec, options)


def test_encoding_leaves_the_process_its_priority(video):
    assert not hasattr(os, "sched_getscheduler") or os.sched_getscheduler(0) != os.SCHED_FIFO


def test_the_times_of_all_frames_are_those_of_a_full_decode(video):
    times, size = frame_times(video)
    np.testing.assert_allclose(times, decoded(video)[0], atol=1e-9)
    assert len(times) == FRAMES and size == SIZE


def test_every_frame_alone_is_that_of_a_full_decode(video):
    times, images = decoded(video)
    for i, time in enumerate(times):
        assert np.array_equal(read_frames(video, np.array([time]))[0], images[i]), f"frame {i}"


def test_frames_in_blocks_are_those_of_a_full_decode_and_the_file_is_opened_once(
    video: Path, monkeypatch: pytest.MonkeyPatch
):
    times, images = decoded(video)
    opened, plain = [], reader._open
    monkeypatch.setattr(reader, "_open", lambda path: opened.append(path) or plain(path))
    frames, moments = VideoFrames(video, "one", times), [0, 3, 3, 4, *range(10, FRAMES)]
    found = list(frames.blocks(moments, 8))
    assert len(opened) == 1 and {len(block) for block in found[:-1]} == {8}
    assert np.array_equal(np.concatenate(found), images[moments])
    with pytest.raises(UserError, match=r"a frame at 9\.0000 s is wanted"):
        list(VideoFrames(video, "one", np.array([0.5, 9.0])).blocks([0, 1], 1))


def test_a_clip_in_any_order_is_that_of_a_full_decode(video):
    times, images = decoded(video)
    assert [number_of(image) for image in images] == list(range(FRAMES))
    rng = np.random.default_rng(0)
    for clip in (np.arange(5, 45, 7), rng.integers(0, FRAMES, 12), np.array([59, 0, 0, 30])):
        assert np.array_equal(read_frames(video, times[clip]), images[clip])


def test_a_time_between_two_frames_gives_the_nearer_one(video):
    times, images = decoded(video)
    for i in (0, 11, 12, 30):
        later, earlier = times[i] + 0.02, times[i + 1] - 0.02
        assert np.array_equal(read_frames(video, np.array([later, earlier]), 0.025), images[i : i + 2])


def test_decord_reads_the_same_frames(video):
    pytest.importorskip("decord")
    times, images = decoded(video)
    clip = np.array([40, 3, 17, 59])
    with av.open(str(video)) as container:
        codec = container.streams.video[0].codec_context.name
    if codec != "h264":
        with pytest.raises(UserError, match=rf"is {codec}, decord .* --data\.decoder pyav"):
            read_frames(video, times[clip], 0.001, "decord")
        return
    found = read_frames(video, times[clip], 0.001, "decord")
    assert [number_of(image) for image in found] == clip.tolist()
    assert np.abs(found.astype(int) - images[clip]).max() <= 3  # another colour conversion


def torchcodec_or_skip() -> None:
    try:
        import torchcodec.decoders  # noqa: F401  # pyright: ignore[reportMissingImports]
    except (
        ImportError,
        RuntimeError,
        OSError,
    ):  # it is there, but not FFmpeg's libraries or the PyTorch it was built for
        pytest.skip("needs torchcodec and FFmpeg's libraries")


def test_torchcodec_reads_the_same_frames(video):
    torchcodec_or_skip()
    times, images = decoded(video)
    clip = np.array([40, 3, 17, 59])
    if video.suffix == ".avi":  # which does not say when its frames are shown
        with pytest.raises(UserError, match=r"cannot be decoded by torchcodec; try --data\.decoder pyav"):
            read_frames(video, times[clip], 0.001, "torchcodec")
        return
    found = read_frames(video, times[clip], 0.001, "torchcodec")
    assert [number_of(image) for image in found] == clip.tolist()
    assert np.abs(found.astype(int) - images[clip]).max() <= 3  # another colour conversion


def test_torchcodec_turns_pictures_as_the_file_asks(tmp_path):
    torchcodec_or_skip()
    file = turned_video(tmp_path)
    ours, theirs = (read_frames(file, np.array([0.5]), decoder=name) for name in ("pyav", "torchcodec"))
    assert ours.shape == theirs.shape
    assert np.abs(ours.astype(int) - theirs).max() <= 3


def test_a_torchcodec_that_is_not_there_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchcodec.decoders", None)
    with pytest.raises(UserError, match=r"needs a torchcodec that fits this PyTorch.*--data\.decoder pyav"):
        read_frames(turned_video(tmp_path), np.array([0.5]), decoder="torchcodec")


def test_a_video_that_changes_its_size_is_named(tmp_path):
    file = tmp_path / "sizes.mkv"
    with av.open(str(file), "w") as container:
        stream = container.add_stream("mjpeg", rate=20)
        stream.height, stream.width, stream.pix_fmt = *SIZE, "yuvj420p"
        for number in range(4):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(number), format="rgb24")))
        container.mux(stream.encode())
        other = av.codec.CodecContext.create("mjpeg", "w")
        other.height, other.width, other.pix_fmt, other.time_base = 32, 32, "yuvj420p", Fraction(1, 20)
        frame = av.VideoFrame.from_ndarray(picture(4)[:32, :32], format="rgb24").reformat(format="yuvj420p")
        frame.pts, frame.time_base = 4, Fraction(1, 20)
        for packet in [*other.encode(frame), *other.encode(None)]:
            packet.stream = stream
            container.mux(packet)
    times, _ = frame_times(file)
    with pytest.raises(
        UserError, match=r"sizes\.mkv has frames of different sizes, \[\(32, 32\), \(48, 64\)\]"
    ):
        read_frames(file, times)


@pytest.mark.parametrize("keep", [0.6, 0.8])
def test_an_avi_that_is_cut_is_named(tmp_path, keep):
    file = write(tmp_path / "cut.avi", "mjpeg", {"strict": "-1"})
    content = file.read_bytes()
    file.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(UserError, match=r"cut\.avi holds \d+ frames, its header says 60; it is truncated"):
        frame_times(file)


def test_an_avi_that_does_not_say_when_frames_are_shown_is_refused(tmp_path):
    write(tmp_path / "right.avi", *KINDS["h264 gop 10"][:2])
    assert len(frame_times(tmp_path / "right.avi")[0]) == FRAMES
    file = write(tmp_path / "wrong.avi", *KINDS["b-frames"][:2])
    for read in (frame_times, header, lambda file: read_frames(file, np.array([1.0]))):
        with pytest.raises(UserError, match=r"wrong\.avi holds h264 with B-frames in an AVI.*ffmpeg"):
            read(file)


def test_variable_frame_rate_is_read_by_time(tmp_path):
    gaps = np.random.default_rng(0).integers(10, 120, FRAMES)
    times = np.cumsum(gaps) - gaps[0]
    file = write(tmp_path / "vfr.mp4", *KINDS["b-frames"][:2], times.tolist())
    np.testing.assert_allclose(frame_times(file)[0], times / 1000, atol=1e-3)
    for clip in ([7], [50, 2, 31], list(range(20, 40))):
        found = read_frames(file, times[clip] / 1000, 2e-3)
        assert [number_of(image) for image in found] == clip


def test_a_random_clip_does_not_read_the_whole_file(tmp_path, monkeypatch):
    file = write(tmp_path / "video.mp4", *KINDS["h264 gop 10"][:2])
    with av.open(str(file)) as container:
        seconds = float(container.streams.video[0].time_base or 0)
    touched, tick = set(), reader._tick

    def noted(item):
        touched.add(tick(item))
        return tick(item)

    monkeypatch.setattr(reader, "_tick", noted)
    read_frames(file, np.array([52, 55]) / 20)
    assert len(touched) <= 10  # one group of pictures of six
    touched.clear()
    read_frames(file, np.array([2, 55]) / 20)
    assert not any(20 < 20 * time * seconds < 45 for time in touched)


def test_a_time_that_the_file_does_not_reach_is_named(video):
    with pytest.raises(
        UserError, match=r"a frame at 9\.0000 s is wanted, the nearest one is at (2\.95|3\.0)"
    ):
        read_frames(video, np.array([0.5, 9.0]))


def turned_video(tmp_path: Path) -> Path:
    """A video that is to be shown a quarter turn clockwise, as phones write them."""
    file = write(tmp_path / "phone.mp4", *KINDS["h264 gop 10"][:2])
    content = bytearray(file.read_bytes())
    matrix = content.index(b"tkhd") + 4 + 40
    content[matrix : matrix + 36] = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
    file.write_bytes(content)
    return file


def test_a_file_that_asks_to_be_turned_is_turned(tmp_path):
    stored = write(tmp_path / "stored.mp4", *KINDS["h264 gop 10"][:2])
    file = turned_video(tmp_path)
    turned, upright = (read_frames(each, np.array([0.5]))[0] for each in (file, stored))
    assert np.array_equal(turned, np.rot90(upright, -1)) and frame_times(file)[1] == SIZE[::-1]


def test_decord_turns_no_oblong_picture_and_says_so(tmp_path):
    pytest.importorskip("decord")
    with pytest.raises(UserError, match=r"phone\.mp4 cannot be decoded by decord; try --data\.decoder pyav"):
        read_frames(turned_video(tmp_path), np.array([0.5]), decoder="decord")


def test_a_turned_video_is_of_the_size_that_is_expected(tmp_path):
    file = turned_video(tmp_path)
    (episode,) = read_videos(tmp_path, None, "pyav", tmp_path / "cache")
    assert episode.stored_size == SIZE[::-1] == upright_size(file)
    (finding,) = headers.check([episode])
    assert finding.verdict == "ok"
    (finding,) = headers.check([replace(episode, stored_size=(40, 40))])
    assert finding.verdict == "error" and f"has {SIZE[::-1]} rows and columns" in finding.found


@pytest.mark.parametrize("content", [b"", b"not a video" * 100])
def test_what_is_not_a_video_is_named(tmp_path, content):
    file = tmp_path / "video.mp4"
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"video\.mp4 is not a readable video"):
        frame_times(file)


def test_a_codec_that_nothing_here_decodes_is_named(tmp_path):
    file = write(tmp_path / "video.mkv", *KINDS["matroska"][:2])
    stored = file.read_bytes()
    assert stored.count(b"V_MPEG4/ISO/AVC") == 1
    file.write_bytes(stored.replace(b"V_MPEG4/ISO/AVC", b"V_NEWER/THAN/US"))
    for ask in (frame_times, header, upright_size, lambda file: read_frames(file, np.zeros(1))):
        with pytest.raises(UserError, match=r"video\.mkv holds a video of a codec that PyAV does not know"):
            ask(file)


def test_a_missing_video_is_named(tmp_path):
    with pytest.raises(UserError, match=r"none\.mp4 does not exist"):
        header(tmp_path / "none.mp4")


@pytest.mark.parametrize("share", [0.3, 0.7])
def test_a_truncated_video_is_named(tmp_path, share):
    whole = write(tmp_path / "video.mp4", *KINDS["h264 gop 10"][:2])
    whole.write_bytes(whole.read_bytes()[: int(share * whole.stat().st_size)])
    with pytest.raises(UserError, match=r"video\.mp4 is not a readable video"):
        read_frames(whole, np.array([0.0]))


@pytest.mark.parametrize("share", [0.3, 0.5, 0.9])
@pytest.mark.parametrize("kind", ["matroska", "vp9"])
def test_a_container_that_is_cut_anywhere_is_named(tmp_path, kind, share):
    whole = write(tmp_path / f"video.{KINDS[kind][2]}", *KINDS[kind][:2])
    frame_times(whole)
    whole.write_bytes(whole.read_bytes()[: int(share * whole.stat().st_size)])
    with pytest.raises(UserError, match=r"ends at [\d.]+ s, its header says [\d.]+ s; it is truncated"):
        frame_times(whole)


@pytest.mark.parametrize("kind", ["h264 gop 10", "b-frames", "h265 gop 10", "av1 gop 10"])
def test_a_video_that_is_damaged_in_the_middle_is_named(tmp_path, kind):
    file = write(tmp_path / "video.mp4", *KINDS[kind][:2])
    times, content = decoded(file)[0], bytearray(file.read_bytes())
    middle = content.index(b"mdat") + (len(content) - content.index(b"mdat")) // 3
    content[middle : middle + 300] = bytes(300)
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"video\.mp4.*(damaged at|cannot be decoded).*copy it anew"):
        read_frames(file, times)


def test_a_video_without_frames_is_named(tmp_path):
    file = tmp_path / "empty.mkv"
    with av.open(str(file), "w") as container:
        stream = container.add_stream("libx264", rate=20)
        stream.height, stream.width, stream.pix_fmt = *SIZE, "yuv420p"
        container.start_encoding()
    with pytest.raises(UserError, match=r"empty\.mkv"):
        frame_times(file)


@pytest.mark.parametrize("kind", ["h264 gop 10", "b-frames"])
def test_a_clip_that_is_cut_out_without_encoding_is_read(tmp_path, kind):
    """Frames from the keyframe to where the clip begins stay in the file, behind an edit list."""
    whole = write(tmp_path / "whole.mp4", *KINDS[kind][:2])
    file = copied(whole, tmp_path / "clip.mp4", first=15)
    times, _ = frame_times(file)
    shown, images = decoded(file)
    np.testing.assert_allclose(times, shown, atol=1e-6)
    assert len(times) < 0.9 * FRAMES and number_of(images[0]) >= 10
    assert [number_of(image) for image in read_frames(file, times)] == [number_of(image) for image in images]


def test_a_last_frame_that_is_shown_as_long_as_the_one_before_is_no_truncation(tmp_path):
    times = [*range(0, 10 * (FRAMES - 2), 10), 10 * (FRAMES - 2), 10 * (FRAMES - 2) + 900]
    whole = write(tmp_path / "whole.mp4", *KINDS["h264 gop 10"][:2], times)
    file = copied(whole, tmp_path / "bursts.mp4", lasts=0.9)
    assert len(frame_times(file)[0]) == FRAMES
