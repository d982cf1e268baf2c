"""First states of episodes: object positions on a grid, viewpoints on a sphere, and clean-scene BDDL. Pure numpy."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vidpara.cli import UserError
from vidpara.config import SceneConfig
from vidpara.types import EpisodeStart, Float

DISTRACTORS = (
    "cookies", "glazed_rim_porcelain_ramekin", "butter", "cream_cheese", "chocolate_pudding", "tomato_sauce",
    "alphabet_soup", "milk", "orange_juice", "ketchup",
)  # fmt: skip
"""Categories that a clean scene may be cluttered with, in the order in which they are used."""
SETTLE_STEPS = 10
"""No-op steps after a reset: objects fall onto the table and the gripper opens."""
INIT_STATES = 50
"""Initial states that LIBERO ships a task; an original start's seed picks number `seed % INIT_STATES`."""
CLEARANCE = 0.13
"""Smallest distance (metres) of a distractor's centre from any other object's."""
TRIES = 1000


def starts(config: SceneConfig, count: int, seed: int) -> list[EpisodeStart]:
    """The first `count` starts of the endless sequence that `seed` names; a longer one begins with the shorter.

    Objects are named by their part: `object` is moved, `target` is where it goes, then `distractor_0` and on. The
    object's cell runs through a permutation of the grid, a new one each time all cells have been visited; viewpoints
    run through theirs likewise. With the original layout a start only holds its seed, which runs through LIBERO's
    initial states in the same way: there, collection and evaluation share the states and differ in their order.

    Raises:
        UserError: the ranges leave no room for the target or a distractor.
    """
    return [_start(config, index, seed) for index in range(count)]


def _start(config: SceneConfig, index: int, seed: int) -> EpisodeStart:
    generator = np.random.default_rng([seed, index, 0])
    view = (0.0, 0.0)
    if config.views == "sphere":
        azimuths, tilts = config.view_grid
        column, row = np.unravel_index(_visit(azimuths * tilts, index, [seed, 2]), config.view_grid)
        view = _view(config, int(column), int(row))
    episode_seed = int(generator.integers(2**31))
    if config.layout == "original":
        state = _visit(INIT_STATES, index, [seed, 1])
        return EpisodeStart(episode_seed // INIT_STATES * INIT_STATES + state, (), view)
    cell = np.unravel_index(_visit(config.grid[0] * config.grid[1], index, [seed, 1]), config.grid)
    low, high = np.array([config.x_range, config.y_range]).T
    manipulated = low + (np.array(cell) + generator.random(2)) / np.array(config.grid) * (high - low)
    positions = {"object": manipulated}
    if config.target == "fixed":
        positions["target"] = np.array(config.target_xy)
        if np.linalg.norm(manipulated - positions["target"]) < config.separation:  # then anywhere
            positions["object"] = _free(generator, low, high, [positions["target"]], config.separation)
    else:
        positions["target"] = _free(generator, low, high, [manipulated], config.separation)
    for number in range(config.distractors):
        taken = list(positions.values())
        positions[f"distractor_{number}"] = _free(generator, low, high, taken, CLEARANCE, config.separation)
    return EpisodeStart(
        episode_seed, tuple((name, float(x), float(y)) for name, (x, y) in positions.items()), view
    )


def _visit(cells: int, index: int, seed: Sequence[int]) -> int:
    """Cell of visit `index`: every run of `cells` visits is a permutation of them."""
    lap, place = divmod(index, cells)
    return int(np.random.default_rng([*seed, lap]).permutation(cells)[place])


def _free(
    generator: np.random.Generator,
    low: Float[np.ndarray, "2"],
    high: Float[np.ndarray, "2"],
    taken: Sequence[Float[np.ndarray, "2"]],
    distance: float,
    distance_from_goal: float = 0.0,
) -> Float[np.ndarray, "2"]:
    """Uniform position at least `distance` from all `taken`, and `distance_from_goal` from the first two."""
    for _ in range(TRIES):
        position = low + generator.random(2) * (high - low)
        apart = np.linalg.norm(np.array(taken) - position, axis=1)
        if apart.min() >= distance and apart[:2].min() >= distance_from_goal:
            return position
    raise UserError(
        f"no free place for {len(taken) + 1} objects between {low} and {high} m after {TRIES} tries; widen "
        "--scene.x-range and --scene.y-range, or lower --scene.separation or --scene.distractors"
    )


def orbit(
    world_from_camera: Float[np.ndarray, "4 4"], surface: float, view: tuple[float, float]
) -> Float[np.ndarray, "4 4"]:
    """The camera on the sphere around its look-at point (on the plane z = `surface`), same distance, without roll.

    The direction from the look-at point to the camera turns by `tilt` away from the default one, towards the
    tangent `azimuth`: 0 is the camera's right, 90 degrees is up.
    """
    azimuth, tilt = np.radians(view)
    eye, forward = world_from_camera[:3, 3], world_from_camera[:3, 2]
    look_at = eye + forward * (surface - eye[2]) / forward[2]
    distance, outward = float(np.linalg.norm(eye - look_at)), -forward
    right = _unit(np.cross([0.0, 0.0, 1.0], outward))
    tangent = np.cos(azimuth) * right + np.sin(azimuth) * np.cross(outward, right)
    turned = np.cos(tilt) * outward + np.sin(tilt) * tangent
    x = _unit(np.cross([0.0, 0.0, 1.0], turned))
    moved = np.eye(4)
    moved[:3, :3] = np.stack([x, np.cross(-turned, x), -turned], axis=1)
    moved[:3, 3] = look_at + distance * turned
    return moved


def check_views(
    config: SceneConfig,
    world_from_camera: Float[np.ndarray, "4 4"],
    intrinsics: Float[np.ndarray, "3 3"],
    surface: float,
) -> None:
    """Every viewpoint on the sphere must look down on the whole range of the objects, or on its middle with the
    original layout, which keeps to no range; the camera's own on the middle. `surface` is the table's height (metres).

    Raises:
        UserError: one does not, named by its azimuth and tilt.
    """
    middle = [(float(np.mean(config.x_range)), float(np.mean(config.y_range)))]
    if config.views == "default":
        if config.layout == "clean" and not _sees(config, world_from_camera, intrinsics, middle, surface):
            raise UserError(
                f"the camera {config.camera} does not see the middle of the objects' range; choose another "
                "--scene.camera, --scene.x-range or --scene.y-range"
            )
        return
    azimuths, tilts = config.view_grid
    where = list(itertools.product(config.x_range, config.y_range)) if config.layout == "clean" else middle
    for view in sorted({_view(config, column, row) for column in range(azimuths) for row in range(tilts)}):
        pose = orbit(world_from_camera, surface, view) if view[1] else world_from_camera
        if not _sees(config, pose, intrinsics, where, surface):
            raise UserError(
                f"from the viewpoint at azimuth {view[0]:g}, tilt {view[1]:g} degrees the workspace is not visible; "
                "lower --scene.tilt-max, narrow --scene.azimuths, or shrink --scene.x-range and --scene.y-range"
            )


def _sees(
    config: SceneConfig,
    world_from_camera: Float[np.ndarray, "4 4"],
    intrinsics: Float[np.ndarray, "3 3"],
    places: Sequence[tuple[float, float]],
    surface: float,
) -> bool:
    """Whether the camera is above the surface and these places on it (metres) lie in its image."""
    points = np.array([(x, y, surface) for x, y in places])
    seen = (points - world_from_camera[:3, 3]) @ world_from_camera[:3, :3]
    if world_from_camera[2, 3] <= surface or (seen[:, 2] <= 0).any():
        return False
    pixels = (seen @ intrinsics.T)[:, :2] / seen[:, 2:]
    return bool(((pixels >= 0) & (pixels < config.image_size)).all())


def _view(config: SceneConfig, column: int, row: int) -> tuple[float, float]:
    """(azimuth, tilt) in degrees of one cell of the view grid."""
    (azimuths, tilts), (low, high) = config.view_grid, config.azimuths
    tilt = config.tilt_min + (config.tilt_max - config.tilt_min) * row / max(tilts - 1, 1)
    return low + (high - low) * column / azimuths, tilt


def _unit(vector: Float[np.ndarray, "3"]) -> Float[np.ndarray, "3"]:
    return vector / np.linalg.norm(vector)


def distractor_categories(count: int, present: Sequence[str]) -> list[str]:
    """The first `count` distractor categories that are not already on the table.

    Raises:
        UserError: there are not so many.
    """
    free = [category for category in DISTRACTORS if category not in present]
    if count > len(free):
        raise UserError(
            f"--scene.distractors {count} asks for more than the {len(free)} categories there are"
        )
    return free[:count]


def clean_bddl(
    problem: str,
    language: str,
    workspace: tuple[str, str],
    objects: Mapping[str, str],
    regions: Mapping[str, str],
    goal: Sequence[str],
) -> str:
    """BDDL of a task with nothing but `objects` (instance -> category) on the `workspace` (instance, category).

    Objects begin on a line apart from one another; the simulator places them afterwards. `regions` maps names of
    regions that belong to an object (a basket's inside) to that object.
    """
    placed = [
        f"(init_{name} (:target {workspace[0]}) (:ranges (({-0.31 + 0.3 * i:.3f} 0.39 {-0.29 + 0.3 * i:.3f} 0.41))))"
        for i, name in enumerate(objects)
    ]
    owned = [f"({region} (:target {owner}))" for region, owner in regions.items()]
    return "\n".join(
        [
            f"(define (problem {problem})",
            "  (:domain robosuite)",
            f"  (:language {language})",
            "  (:regions",
            *(f"    {line}" for line in placed + owned),
            "  )",
            f"  (:fixtures {workspace[0]} - {workspace[1]})",
            "  (:objects",
            *(f"    {name} - {category}" for name, category in objects.items()),
            "  )",
            f"  (:obj_of_interest {' '.join(list(objects)[:2])})",
            "  (:init",
            *(f"    (On {name} {workspace[0]}_init_{name})" for name in objects),
            "  )",
            f"  (:goal (And ({' '.join(goal)})))",
            ")",
            "",
        ]
    )


def clean_task(problem: Mapping[str, Any], config: SceneConfig) -> tuple[str, dict[str, str]]:
    """(BDDL, part -> instance) of a parsed task with nothing but its goal's objects and the distractors.

    Raises:
        UserError: the goal is not one object on or in another one that can be placed.
    """
    categories = {name: category for category, names in problem["objects"].items() for name in names}
    owners = {name: region["target"] for name, region in problem["regions"].items()}
    goals = problem["goal_state"]
    predicate, manipulated, target = goals[0] if len(goals) == 1 and len(goals[0]) == 3 else ("", "", "")
    owner = owners.get(target, target)
    if manipulated not in categories or owner not in categories:
        raise UserError(
            f"the clean layout needs a goal of one object on or in another; {config.suite} task {config.task} has "
            f"{goals}: set --scene.layout original"
        )
    parts = {"object": manipulated, "target": owner}
    objects = {manipulated: categories[manipulated], owner: categories[owner]}
    for number, category in enumerate(distractor_categories(config.distractors, list(objects.values()))):
        parts[f"distractor_{number}"] = f"{category}_9"
        objects[f"{category}_9"] = category
    surface = owners[next(state[2] for state in problem["initial_state"] if state[1] == owner)]
    workspace = (surface, next(kind for kind, names in problem["fixtures"].items() if surface in names))
    inside = {target.removeprefix(f"{owner}_"): owner} if target != owner else {}
    language = " ".join(problem["language_instruction"])
    goal = (predicate, manipulated, target)
    return clean_bddl(problem["problem_name"], language, workspace, objects, inside, goal), parts
