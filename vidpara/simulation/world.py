"""What only a scripted expert may know of the simulated world: poses, shapes and goals, read from MuJoCo."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from vidpara.types import Float

MESH, BOX = 7, 6
"""MuJoCo's numbers for geom types."""


class Goal(NamedTuple):
    """One goal predicate: what is moved, and for `on` and `in` the object or region where it goes."""

    predicate: str
    object: str
    target: str


class Box(NamedTuple):
    """A collision box in the world: centre, axes in the columns of `rotation`, half sizes (metres)."""

    center: Float[np.ndarray, "3"]
    rotation: Float[np.ndarray, "3 3"]
    half: Float[np.ndarray, "3"]


class World:
    """A view of robosuite's task environment; positions are metres in the world frame."""

    def __init__(self, task: Any) -> None:
        self._task = task
        self._sim = task.sim

    def satisfied(self, goal: Goal) -> bool:
        return bool(self._task._eval_predicate(list(goal)))

    def base_position(self) -> Float[np.ndarray, "3"]:
        return self._sim.data.get_body_xpos("robot0_base").copy()

    def category(self, name: str) -> str:
        return self._task.get_object(name).category_name

    def is_region(self, name: str) -> bool:
        return name in self._task.object_sites_dict

    def position(self, name: str) -> Float[np.ndarray, "3"]:
        return self._sim.data.body_xpos[self._task.obj_body_id[name]].copy()

    def rotation(self, name: str) -> Float[np.ndarray, "3 3"]:
        return self._sim.data.body_xmat[self._task.obj_body_id[name]].reshape(3, 3).copy()

    def target_position(self, name: str) -> Float[np.ndarray, "3"]:
        """Centre of a goal's target: a region's site or an object's body."""
        return self._sim.data.get_site_xpos(name).copy() if self.is_region(name) else self.position(name)

    def bounding_box(self, name: str) -> tuple[Float[np.ndarray, "3"], Float[np.ndarray, "3"]]:
        """(low, high) corners of an object's boxes and meshes, in its own frame."""
        model, data = self._sim.model, self._sim.data
        origin, rotation = self.position(name), self.rotation(name)
        corners = []
        for geom in range(model.ngeom):
            if self._owner(geom) != self._task.obj_body_id[name]:
                continue
            if model.geom_type[geom] == MESH:
                mesh = model.geom_dataid[geom]
                first = model.mesh_vertadr[mesh]
                points = model.mesh_vert[first : first + model.mesh_vertnum[mesh]]
            elif model.geom_type[geom] == BOX:
                points = model.geom_size[geom] * (np.indices((2, 2, 2)).reshape(3, -1).T * 2 - 1)
            else:
                continue
            world = points @ data.geom_xmat[geom].reshape(3, 3).T + data.geom_xpos[geom]
            corners.append((world - origin) @ rotation)
        points = np.concatenate(corners)
        return points.min(axis=0), points.max(axis=0)

    def obstacles(self, grasped: str) -> list[Box]:
        """Collision boxes of all objects and fixtures but the one to grasp and what everything stands on."""
        model, data = self._sim.model, self._sim.data
        names = [*self._task.objects_dict, *self._task.fixtures_dict]
        bodies = {self._task.obj_body_id[n] for n in names if n != grasped and n in self._task.obj_body_id}
        boxes = []
        for geom in range(model.ngeom):
            if self._owner(geom) not in bodies or not (
                model.geom_contype[geom] or model.geom_conaffinity[geom]
            ):
                continue
            half = (
                model.geom_size[geom] if model.geom_type[geom] == BOX else np.full(3, model.geom_rbound[geom])
            )
            boxes.append(
                Box(data.geom_xpos[geom].copy(), data.geom_xmat[geom].reshape(3, 3).copy(), half.copy())
            )
        return boxes

    def _owner(self, geom: int) -> int:
        """Body of the object or fixture that a geom belongs to, 0 for the robot and the arena."""
        known = set(self._task.obj_body_id.values())
        body = int(self._sim.model.geom_bodyid[geom])
        while body != 0 and body not in known:
            body = int(self._sim.model.body_parentid[body])
        return body
