"""The README's film, from one in results/: what a page shows without a click.

python docs/figures/film.py
"""

from pathlib import Path

import av
from PIL import Image

from vidpara.files import beside

ROOT = Path(__file__).parents[2]
FILM = ROOT / "results/video_backbone/two_stage-seed0-demos240.mp4"
WIDTH = 720
HOLD, PAUSE = 15, 100
"""So many pictures does the end stand still, and so many milliseconds each picture."""


def draw() -> list[Image.Image]:
    """The film's pictures, as large as they are shown."""
    with av.open(FILM) as container:
        pictures = [frame.to_image() for frame in container.decode(video=0)]
    size = (WIDTH, round(pictures[0].height * WIDTH / pictures[0].width))
    return [picture.resize(size, Image.Resampling.LANCZOS) for picture in pictures]


if __name__ == "__main__":
    first, *others = draw()
    with beside(Path(__file__).with_name("rollout.webp")) as part:
        first.save(
            part, "WEBP", save_all=True, append_images=[*others, *[others[-1]] * HOLD], duration=PAUSE, loop=0,
            quality=70, method=6,
        )  # fmt: skip
