"""Which episodes are trained on and which are held out, and the workspace that they span."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from vidpara.cli import UserError
from vidpara.config import DataConfig
from vidpara.data.episode import Episode
from vidpara.types import Float, Tensor, Workspace

MARGIN = 0.02
"""Metres added to the workspace on each side, so that no end-effector position falls on its border."""


class Split(NamedTuple):
    """Whose actions are trained on, whose video alone may be, and who is held out from both."""

    training: list[Episode]
    unlabelled: list[Episode]
    held_out: list[Episode]


def split(episodes: Sequence[Episode], config: DataConfig, seed: int = 0) -> Split:
    """The last `validation_demos` are held out, of each source's tasks in proportion; of the rest `demos` train, tasks
    in turn, and the others are left out. `seed` is the training's: with another one other demos train, and the same
    ones are held out.

    Only episodes with labels count as demos, as long as there are any; those without are left out beside them.

    Raises:
        UserError: too few demos, or an end effector outside the image (with `out_of_view: mask` at all moments of all
            demos).
    """
    videos = [episode for episode in episodes if not episode.labelled]
    demos = [episode for episode in episodes if episode.labelled] or videos
    if not 1 <= config.validation_demos < len(demos):
        raise UserError(
            f"the rollouts hold {len(demos)} demos, of which {config.validation_demos} are for validation; "
            "leave at least one demo on each side (--data.validation_demos)"
        )
    if config.out_of_view == "error":
        for episode in demos:
            if episode.labelled and not episode.in_view.all():
                frame = int(episode.in_view.logical_not().nonzero()[0])
                u, v = episode.pixel[frame].tolist()
                raise UserError(
                    f"{episode.source}: {episode.name}: the end effector is outside the image at frame {frame} "
                    f"(pixel {u:.0f}, {v:.0f}); set --data.out_of_view mask to train without such steps"
                )
    elif demos[0].labelled and not any(bool(episode.in_view.any()) for episode in demos):
        raise UserError(
            f"{demos[0].source}: the end effector is in view at no moment of any demo, so there is nothing to train "
            "on; look at the camera's parameters and the positions with stages/check_data.py"
        )
    out = _last_of_each_task(demos, config.validation_demos)
    training = [demo for i, demo in enumerate(demos) if i not in out]
    if config.demos > len(training):
        raise UserError(
            f"data.demos asks for {config.demos} training demos, the rollouts hold {len(training)}"
        )
    held_out = [demo for i, demo in enumerate(demos) if i in out]
    chosen = list(range(len(training)))
    if config.choose == "first" and config.demos:
        drawn = torch.randperm(len(training), generator=torch.Generator().manual_seed(seed)).tolist()
        chosen = sorted(_tasks_in_turn(training, drawn if seed else chosen)[: config.demos])
    if config.choose == "corners" and config.demos:
        places = torch.stack([episode.grasp for episode in training])
        chosen = corners_first(places, config.demos)
    others = sorted(set(range(len(training))) - set(chosen))
    left_out = [training[i] for i in others] + (videos if demos[0].labelled else [])
    return Split([training[i] for i in chosen], left_out, held_out)


def _by_task(demos: Sequence[Episode], order: Sequence[int]) -> list[list[int]]:
    """The indices of `order`, those of one source and task together."""
    found: dict[tuple[Path, str], list[int]] = {}
    for index in order:
        found.setdefault((demos[index].source, demos[index].task), []).append(index)
    return list(found.values())


def _last_of_each_task(demos: Sequence[Episode], count: int) -> set[int]:
    """Indices of `count` demos: the last ones of each task, as many as its share of all (largest remainders first, of
    equal ones the last task's), and never all of a task as long as another has two.
    """
    tasks = _by_task(demos, range(len(demos)))
    share = [count * len(own) / len(demos) for own in tasks]
    taken = [int(each) for each in share]
    while sum(taken) < count:
        left = [(taken[i] + 1 < len(own), share[i] - taken[i], i) for i, own in enumerate(tasks)]
        taken[max(left)[-1]] += 1
    return {index for own, number in zip(tasks, taken, strict=True) for index in own[len(own) - number :]}


def _tasks_in_turn(demos: Sequence[Episode], order: Sequence[int]) -> list[int]:
    """The indices of `order`: the first of each task, the second of each, and so on."""
    turns = itertools.zip_longest(*_by_task(demos, order))
    return [index for turn in turns for index in turn if index is not None]


def corners_first(places: Float[Tensor, "n 2"], count: int) -> list[int]:
    """Indices of `count` places (metres) that cover the table: those nearest to the four corners of their bounding box,
    then, one by one, whichever is farthest from all that are chosen (Gonzalez 1985).
    """
    low, high = places.amin(0), places.amax(0)
    corners = torch.cartesian_prod(*torch.stack([low, high], dim=1))
    chosen = list(dict.fromkeys(torch.cdist(corners, places).argmin(1).tolist()))[:count]
    away = torch.cdist(places, places[chosen]).amin(1)
    while len(chosen) < count:
        away[chosen] = -1.0  # not again, where others stand at the same place
        chosen.append(int(away.argmax()))
        away = torch.minimum(away, (places - places[chosen[-1]]).norm(dim=1))
    return chosen


def workspace(episodes: Sequence[Episode], box: Sequence[float] | None = None) -> Workspace:
    """Image size, range of the end effector's positions, the gripper's rotation at the start, where that is known, and
    the episodes' rate.

    The range is `box` (lowest x, y, z in metres, then the highest), or what the episodes cover and a little more.

    Raises:
        UserError: the images differ in size, no episode has labels, or positions lie outside the box.
    """
    sizes = {episode.image_size for episode in episodes}
    if len(sizes) > 1:
        raise UserError(
            f"the sources mix image sizes {sorted(sizes)} (rows, columns); resize all of them with --data.size"
        )
    acting = [episode for episode in episodes if episode.labelled]
    if not acting:
        raise UserError(
            f"{episodes[0].source} holds video without poses and camera parameters, which a policy is trained on; "
            "add a source that has them (--data.rollouts), or give the camera with --data.cameras"
        )
    positions = torch.cat([episode.position for episode in acting])
    low, high = positions.amin(0) - MARGIN, positions.amax(0) + MARGIN
    if box is not None:
        seen, (low, high) = (low + MARGIN, high - MARGIN), torch.tensor(box).view(2, 3)
        if not bool((low < high).all() and (low <= seen[0]).all() and (seen[1] <= high).all()):
            raise UserError(
                f"data.workspace {tuple(box)} does not hold the end effector, which is between "
                f"{_metres(seen[0])} and {_metres(seen[1])}; give the lowest x, y, z, then the highest"
            )
    turned = next((episode for episode in acting if episode.has_rotation), acting[0])
    home = tuple(tuple(row) for row in turned.rotation[0].tolist())
    rates = [episode.rate for episode in acting if len(episode) > 1]
    known = {"rate": statistics.median(rates)} if rates else {}
    return Workspace(sizes.pop(), tuple(low.tolist()), tuple(high.tolist()), home, **known)


def _metres(point: Tensor) -> str:
    return ", ".join(f"{value:.3f}" for value in point.tolist())
