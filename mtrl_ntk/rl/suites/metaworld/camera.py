"""Pictures of Meta-World's simulations, drawn by MuJoCo."""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np
from gymnasium.envs.mujoco.mujoco_rendering import OffScreenViewer
from metaworld.sawyer_xyz_env import SawyerXYZEnv
from numpy.typing import NDArray

EXPENSIVE_EFFECTS = (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION)


class Viewer(OffScreenViewer):
    """A viewer that frees all it holds, once, also when it could not be made."""

    opengl_context: Any = None
    con: Any = None

    def free(self) -> None:
        """Frees it."""
        if self.opengl_context is not None:
            self.make_context_current()  # type: ignore[no-untyped-call]
            if self.con is not None:
                self.con.free()
            self.opengl_context.free()
            self.opengl_context = None


class SawyerCamera:
    """Takes pictures of a simulation, the right way up.

    Shadows, reflections and multisampling are off: on a CPU they take nine tenths of the time.

    Args:
        sim: The simulation.
        name: One of its cameras.
        size: Width and height of the pictures, in pixels.
    """

    def __init__(self, sim: SawyerXYZEnv, name: str, size: int) -> None:
        model = sim.model
        model.vis.quality.offsamples = 0
        model.vis.global_.offwidth = max(model.vis.global_.offwidth, size)
        model.vis.global_.offheight = max(model.vis.global_.offheight, size)
        self._camera: int = model.camera(name).id
        # The library mounts its corner cameras with their upper side down.
        upwards = sim.data.cam_xmat[self._camera].reshape(3, 3)[2, 1]
        self._is_upside_down = bool(upwards < -0.1)
        self._viewer: Any = Viewer(model, sim.data, size, size)
        for effect in EXPENSIVE_EFFECTS:
            self._viewer.scn.flags[effect] = False

    def picture(self) -> NDArray[np.uint8]:
        """What the camera sees now."""
        self._viewer.make_context_current()
        picture: NDArray[np.uint8] = self._viewer.render("rgb_array", self._camera)
        # Turned, not mirrored: left stays left.
        return picture[::-1, ::-1] if self._is_upside_down else picture

    def close(self) -> None:
        """Frees what the drawing needs."""
        self._viewer.free()
