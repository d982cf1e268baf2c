"""Scripted demonstrations -> LIBERO HDF5: python stages/collect_rollouts.py configs/collect/grid.yaml --demos 256.

The same command goes on where a stopped one ended.
"""

from __future__ import annotations

import shutil
from dataclasses import replace

from vidpara.cli import dump, main
from vidpara.config import CollectConfig
from vidpara.data import write_rollouts
from vidpara.exclusive import exclusive
from vidpara.simulation.record import collect


def run(config: CollectConfig, argv: list[str]) -> None:
    """Collect into a folder of parts beside the output, then assemble them."""
    default = CollectConfig()
    content = replace(config, output=default.output, workers=default.workers)  # what the demos depend on
    settings = dump(replace(content, demos=default.demos))
    taken = f"{config.output} is being collected by another command; wait for it, or give another --output"
    with exclusive(config.output.with_suffix(".lock"), taken):
        folder = write_rollouts.begin(config.output, dump(content), settings)
        if folder is None:
            print(f"{config.output} is complete, with these settings; nothing to do")
            return
        collected = collect(config, folder, write_rollouts.write_part)
        steps = write_rollouts.assemble(config.output, collected.parts, dump(content), collected.attempts)
        shutil.rmtree(folder)
    print(
        f"{config.output}: {len(collected.parts)} demos, {steps} steps; the expert failed at "
        f"{collected.attempts - len(collected.parts)} of {collected.attempts} starts"
    )


if __name__ == "__main__":
    main(CollectConfig, run)
