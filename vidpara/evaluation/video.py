"""mp4 files, and heatmaps laid over images."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import av
import numpy as np
import torch
import torch.nn.functional as F
from matplotlib import colormaps

from vidpara.files import beside
from vidpara.types import Float, UInt8

HEAT = (255 * colormaps["magma"](np.linspace(0.25, 1.0, 256))[:, :3]).astype(np.float32)
"""256 colours, from unlikely to likely."""


def write_mp4(target: Path, images: Iterable[UInt8[np.ndarray, "h w 3"]], fps: int, crf: int) -> None:
    """H.264 that browsers play; written whole or not at all. Rows and columns must be even."""
    faststart = {"movflags": "+faststart"}
    with beside(target) as part, av.open(str(part), "w", format="mp4", options=faststart) as container:
        stream = None
        for image in images:
            if stream is None:
                stream = container.add_stream(
                    "libx264", rate=fps, options={"crf": str(crf), "preset": "medium"}
                )
                stream.height, stream.width, stream.pix_fmt = *image.shape[:2], "yuv420p"
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        if stream is not None:
            container.mux(stream.encode())


def read_mp4(source: Path) -> list[UInt8[np.ndarray, "h w 3"]]:
    with av.open(str(source)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def overlay(
    image: UInt8[np.ndarray, "h w 3"], heatmap: Float[torch.Tensor, "rows columns"]
) -> UInt8[np.ndarray, "h w 3"]:
    """The heatmap over the image, opaque where it is likely; an all-zero one (a policy without heatmap) is nothing."""
    enlarged = F.interpolate(
        heatmap[None, None].float().cpu(), image.shape[:2], mode="bilinear", align_corners=False
    )[0, 0]
    likely = (enlarged / enlarged.max().clamp(min=1e-12)).sqrt().numpy()
    opacity = 0.75 * likely[..., None]
    color = HEAT[(255 * likely).astype(np.uint8)]
    return (image + (color - image) * opacity + 0.5).astype(np.uint8)
