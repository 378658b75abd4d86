"""Pictures of Meta-World's simulations, with what is at each pixel, how far, and how inclined."""

from __future__ import annotations

from typing import Any, NamedTuple

import mujoco
import numpy as np
from metaworld.sawyer_xyz_env import SawyerXYZEnv
from numpy.typing import NDArray

from mtrl_ntk.rl.suites.metaworld.camera import EXPENSIVE_EFFECTS, Viewer

CLASSES = (
    "floor",
    "rim",
    "table",
    "robot",
    "gripper",
    "object",
    "box",
    "door",
    "drawer",
    "button",
    "window",
)
"""What there is in the tasks of MT10: around the table its rim; an object is a puck or a peg."""
_CLASS_OF_BODY = {
    "RetainingWall": "rim",
    "tablelink": "table",
    "base": "robot",
    "hand": "gripper",
    "obj": "object",
    "peg": "object",
    "box": "box",
    "door": "door",
    "drawer": "drawer",
    "buttonbox": "button",
    "window": "window",
}
"""Of the bodies from a geometry's own to the world's, the first that is here says what it is."""
_IDENTITIES = (mujoco.mjtRndFlag.mjRND_SEGMENT, mujoco.mjtRndFlag.mjRND_IDCOLOR)
"""What makes MuJoCo draw numbers of geometries instead of colours."""
_DETAIL = 3
"""Pixels that are drawn for each pixel of a scan, in either direction; odd, so that one is in the
middle. Normals come from the differences between these."""


class Viewpoint(NamedTuple):
    """Where a picture is taken from."""

    target: tuple[float, float, float]
    """What is in the middle, in metres."""
    distance: float
    """How far away that is, in metres."""
    azimuth: float
    """Angle around the vertical, in degrees."""
    elevation: float
    """Angle of the view to the horizontal, in degrees; negative from above."""


class Scan(NamedTuple):
    """A picture, and what is at each of its pixels."""

    picture: NDArray[np.uint8]
    """Colours, ``[height, width, 3]``."""
    classes: NDArray[np.int8]
    """Index into :data:`CLASSES`, ``[height, width]``; -1 where there is nothing."""
    depths: NDArray[np.float32]
    """Metres along the view, ``[height, width]``; 0 where there is nothing."""
    normals: NDArray[np.float32]
    """Unit vectors in the camera's axes, right, up and backwards, ``[height, width, 3]``; zero
    where there is nothing, or no neighbour on the same geometry to tell by."""


class Scanner:
    """Scans a simulation from any viewpoint, without the marks that show goals.

    Args:
        sim: The simulation.
        width: Width of the pictures, in pixels.
        height: Their height.
    """

    def __init__(self, sim: SawyerXYZEnv, width: int, height: int) -> None:
        model = sim.model
        model.vis.quality.offsamples = 0  # colours of no body would be at edges
        drawn = (_DETAIL * width, _DETAIL * height)
        model.vis.global_.offwidth, model.vis.global_.offheight = drawn
        self._model, self._size = model, (height, width)
        self._class_of_geom = np.array([_class_of(model, index) for index in range(model.ngeom)])
        self._viewer: Any = Viewer(model, sim.data, *drawn)
        self._viewer.vopt.sitegroup[:] = 0
        for effect in EXPENSIVE_EFFECTS:
            self._viewer.scn.flags[effect] = False

    def scan(self, view: Viewpoint) -> Scan:
        """What is seen from somewhere now."""
        camera = self._viewer.cam
        camera.lookat[:] = view.target
        camera.distance, camera.azimuth, camera.elevation = view[1:]
        self._viewer.make_context_current()
        picture = self._viewer.render("rgb_array", -1)
        geoms, buffer = self._identities()
        depths = np.where(geoms >= 0, _metres(self._model, buffer), 0.0)
        focal = _DETAIL * self._size[0] / 2 / np.tan(np.radians(self._model.vis.global_.fovy) / 2)
        normals = normals_of(depths, geoms, focal)
        classes = np.where(geoms >= 0, self._class_of_geom[geoms], -1)
        return Scan(
            self._averaged(picture),
            _middles(classes).astype(np.int8),
            _middles(depths).astype(np.float32),
            _middles(normals).astype(np.float32),
        )

    def close(self) -> None:
        """Frees what the drawing needs."""
        self._viewer.free()

    def _identities(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Which geometry is at each pixel, -1 for none, and the depth buffer."""
        viewer = self._viewer
        colours = np.empty((viewer.viewport.height, viewer.viewport.width, 3), np.uint8)
        buffer = np.empty(colours.shape[:2], np.float32)
        flags = viewer.scn.flags.copy()
        for flag in _IDENTITIES:
            viewer.scn.flags[flag] = True
        mujoco.mjr_render(viewer.viewport, viewer.scn, viewer.con)
        mujoco.mjr_readPixels(colours, buffer, viewer.viewport, viewer.con)
        viewer.scn.flags[:] = flags
        seen = colours[::-1].astype(np.int64) @ (1, 2**8, 2**16)
        return _geoms_of_segments(viewer.scn)[seen], buffer[::-1]

    def _averaged(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        height, width = self._size
        tiles = picture.reshape(height, _DETAIL, width, _DETAIL, 3)
        averages: NDArray[np.uint8] = np.rint(tiles.mean(axis=(1, 3))).astype(np.uint8)
        return averages


def normals_of(
    depths: NDArray[np.float64], geoms: NDArray[np.int64], focal: float
) -> NDArray[np.float64]:
    """Unit normals in the camera's axes of what lies at some depths, ``[height, width, 3]``.

    Zero is where they are unknown, or would point away from the camera, as at a jump in depth.

    Args:
        depths: Metres along the view, ``[height, width]``.
        geoms: The geometry at each pixel; normals come from differences within one.
        focal: Focal length in pixels.
    """
    height, width = depths.shape
    right, down = np.meshgrid(np.arange(width), np.arange(height))
    x, y = right - (width - 1) / 2, (height - 1) / 2 - down
    points = np.stack([x / focal * depths, y / focal * depths, -depths], axis=-1)
    across, is_wide = _differences(points, geoms, axis=1)
    downwards, is_high = _differences(points, geoms, axis=0)
    normals = np.cross(downwards, across)
    is_turned_here = (normals * points).sum(-1) < 0
    known = (is_wide & is_high & is_turned_here & (geoms >= 0))[..., None]
    lengths = np.linalg.norm(normals, axis=-1, keepdims=True)
    return np.where(known, normals / np.where(known, lengths, 1.0), 0.0)


def _differences(
    points: NDArray[np.float64], geoms: NDArray[np.int64], axis: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """From each point to the next of its geometry, or from the one before, whichever is closer."""
    steps = np.diff(points, axis=axis)
    steps[np.diff(geoms, axis=axis) != 0] = np.inf
    missing = np.full_like(points.take([0], axis), np.inf)
    forward = np.concatenate([steps, missing], axis)
    backward = np.concatenate([missing, steps], axis)
    is_forward = np.abs(forward[..., 2]) <= np.abs(backward[..., 2])
    chosen = np.where(is_forward[..., None], forward, backward)
    known = np.isfinite(chosen[..., 2])
    return np.where(known[..., None], chosen, 0.0), known


def _middles(pixels: NDArray[Any]) -> NDArray[Any]:
    """Of each square of drawn pixels the one in the middle."""
    middle = _DETAIL // 2
    return pixels[middle::_DETAIL, middle::_DETAIL]


def _metres(model: mujoco.MjModel, buffer: NDArray[np.float32]) -> NDArray[np.float64]:
    """Depths of a depth buffer, which holds 0 for the near and 1 for the far clipping plane."""
    near: float = model.vis.map.znear * model.stat.extent
    far: float = model.vis.map.zfar * model.stat.extent
    return near / (1.0 - buffer.astype(np.float64) * (1.0 - near / far))


def _geoms_of_segments(scene: mujoco.MjvScene) -> NDArray[np.int64]:
    """Index of the model's geometry by the number that is drawn, which 0 is for none."""
    geoms = np.full(scene.ngeom + 1, -1)
    for drawn in scene.geoms[: scene.ngeom]:
        if drawn.segid >= 0 and drawn.objtype == mujoco.mjtObj.mjOBJ_GEOM:
            geoms[drawn.segid + 1] = drawn.objid
    return geoms


def _class_of(model: mujoco.MjModel, geom: int) -> int:
    """Index of the class of a geometry; -1 if it is none of a known body."""
    body = int(model.geom_bodyid[geom])
    if not body:
        return CLASSES.index("floor")
    while body and model.body(body).name not in _CLASS_OF_BODY:
        body = int(model.body_parentid[body])
    return CLASSES.index(_CLASS_OF_BODY[model.body(body).name]) if body else -1
