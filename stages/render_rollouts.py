"""LIBERO demonstrations with images of another size or camera, rendered anew from the states that the files hold.

python stages/render_rollouts.py --rollouts data/grid.hdf5 --output data/grid_256.hdf5 --size 256

The same command goes on where a stopped one ended.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from functools import partial

from vidpara.cli import UserError, dump, main
from vidpara.config import RenderConfig
from vidpara.data import demo_states, write_rollouts
from vidpara.data.rollouts import demo_names
from vidpara.exclusive import exclusive
from vidpara.simulation.render_stored import render


def run(config: RenderConfig, argv: list[str]) -> None:
    """Render into a folder of parts beside the output, then join them."""
    rows, columns = (config.size, config.size) if isinstance(config.size, int) else config.size
    if min(rows, columns) < 1 or not config.camera:
        raise UserError(f"--size {config.size} --camera {list(config.camera)}: give a size and a camera")
    if config.rollouts.is_dir():
        raise UserError(f"--rollouts {config.rollouts} is a folder; give one of its HDF5 files at a time")
    if config.demos < 0:
        raise UserError(f"--demos {config.demos}: give how many, or 0 for all")
    names = demo_names(config.rollouts)
    default, stat = RenderConfig(), config.rollouts.stat()
    content = replace(config, rollouts=default.rollouts, output=default.output, workers=default.workers)
    of = f"source: {config.rollouts.name}, {stat.st_size} bytes, {stat.st_mtime_ns}\n"
    settings = of + dump(replace(content, demos=default.demos))
    taken = f"{config.output} is being written by another command; wait for it, or give another --output"
    with exclusive(config.output.with_suffix(".lock"), taken):
        folder = write_rollouts.begin(config.output, of + dump(content), settings)
        if folder is None:
            print(f"{config.output} is complete, with these settings; nothing to do")
            return
        read, save = (
            partial(each, config.rollouts) for each in (demo_states.read_stored, demo_states.write_rendered)
        )
        parts = render(config, names[: config.demos or None], folder, read, save)
        steps = write_rollouts.join(config.output, parts, {"config": of + dump(content)})
        shutil.rmtree(folder)
    seen = " and ".join(config.camera)
    print(f"{config.output}: {len(parts)} demos, {steps} steps, {rows} x {columns} from {seen}")


if __name__ == "__main__":
    main(RenderConfig, run)
