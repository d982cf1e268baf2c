"""decord and torchcodec instead of PyAV, each on one thread: workers are many, cores are few.

Both are given the moments that are wanted and answer as `video._nearest` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from vidpara.cli import UserError
from vidpara.types import Float, UInt8

Decoder = Literal["pyav", "decord", "torchcodec"]
Shown = Sequence[tuple[float, UInt8[np.ndarray, "h w 3"]]]
"""(time in seconds, picture) of the frames found."""


def by_decord(file: Path, codec: str, times: Float[np.ndarray, "n"]) -> Shown:
    """The frames nearest to `times` (seconds), by decord.

    Raises:
        UserError: decord is not installed, or cannot read this file exactly.
    """
    try:
        import decord  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UserError("data.decoder decord needs decord; pip install 'vidpara[video]'") from error
    if codec != "h264":  # of H.265 with open groups of pictures decord 0.6 gives the neighbour of a frame
        raise UserError(
            f"{file} is {codec}, decord finds frames exactly in h264 alone; set --data.decoder pyav"
        )
    try:
        reader = decord.VideoReader(str(file), num_threads=1)
        shown = reader.get_frame_timestamp(range(len(reader)))[:, 0].astype(np.float64)
        places = nearest(shown, times)
        images = reader.get_batch(places).asnumpy()
    except decord.DECORDError as error:
        raise UserError(f"{file} cannot be decoded by decord; try --data.decoder pyav") from error
    return list(zip(shown[places].tolist(), images, strict=True))


def by_torchcodec(file: Path, shown: Float[np.ndarray, "m"], times: Float[np.ndarray, "n"]) -> Shown:
    """The frames nearest to `times` (seconds) of a file whose frames are `shown` then, by torchcodec.

    Raises:
        UserError: torchcodec or the FFmpeg libraries that it loads are not there, or it cannot decode the file.
    """
    try:
        from torchcodec.decoders import VideoDecoder  # pyright: ignore[reportMissingImports]
    except (ImportError, RuntimeError, OSError) as error:  # it says so if it finds no FFmpeg
        raise UserError(
            "data.decoder torchcodec needs a torchcodec that fits this PyTorch, and FFmpeg's libraries; install them, "
            "or set --data.decoder pyav"
        ) from error
    try:
        reader = VideoDecoder(str(file), dimension_order="NHWC", num_ffmpeg_threads=1, seek_mode="exact")
        found = reader.get_frames_at(nearest(shown, times))
    except (RuntimeError, ValueError, IndexError) as error:
        raise UserError(f"{file} cannot be decoded by torchcodec; try --data.decoder pyav") from error
    return list(zip(found.pts_seconds.tolist(), found.data.numpy(), strict=True))


def nearest(shown: Float[np.ndarray, "m"], times: Float[np.ndarray, "n"]) -> list[int]:
    """Which of the frames `shown` at these times is nearest to each of `times`."""
    return [int(np.abs(shown - time).argmin()) for time in times]
