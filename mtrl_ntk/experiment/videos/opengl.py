"""What videos show, and which OpenGL can draw them here without a window.

Imports nothing heavy: the command line reads its options before MuJoCo is imported.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mtrl_ntk.errors import UserError
from mtrl_ntk.experiment.logs.streams import show_line

VARIABLE = "MUJOCO_GL"
"""Environment variable by which MuJoCo and Gymnasium choose an OpenGL."""
BACKENDS = ("egl", "osmesa", "glfw")
"""In order of preference: EGL may use a GPU, OSMesa leaves Mesa, GLFW needs a display."""
OFF = ("disable", "disabled", "off", "false", "0")
"""Values of the variable with which MuJoCo loads no OpenGL at all."""
INSTALL = "install Debian's libegl1 and libgl1: apt-get install libegl1 libgl1"
_TIMEOUT_S = 120.0
_IMPORT = "import mujoco"
_RENDER = "from mtrl_ntk.experiment.videos.opengl import draw_a_ball; draw_a_ball()"
_BALL = """
<mujoco>
  <worldbody><light pos="0 0 3"/><geom type="sphere" size="1" rgba="1 0 0 1"/></worldbody>
</mujoco>"""


class RenderingError(UserError):
    """Why there can be no video here."""


def drop_broken_backend() -> None:
    """Ignores, with a line, a ``MUJOCO_GL`` with which MuJoCo cannot even be imported.

    Only videos need an OpenGL, but MuJoCo loads the one that is named as soon as it is imported;
    to be called before that.
    """
    named = os.environ.get(VARIABLE)
    if named is None:
        return
    reason = _why_not(named, _IMPORT)
    if reason is not None:
        del os.environ[VARIABLE]
        show_line(f"{VARIABLE}={named} does not work here and is ignored: {reason}")


def find_backend() -> str:
    """Returns the OpenGL to draw with: the one that ``MUJOCO_GL`` names, or the first that works.

    Each is tried in a process of its own: one that fails would spoil the next.

    Raises:
        RenderingError: If none works.
    """
    named = os.environ.get(VARIABLE, "").lower()
    if named in OFF:
        raise RenderingError(f"{VARIABLE} is {named}, which turns drawing off; unset it")
    if named in BACKENDS:
        reason = _why_not(named, _RENDER)
        if reason is None:
            return named
        raise RenderingError(
            f"{VARIABLE} is {named}, which cannot draw here ({reason}); unset it, or {INSTALL}"
        )
    for backend in _candidates():
        if _why_not(backend, _RENDER) is None:
            return backend
    raise RenderingError(f"there is no OpenGL to draw with; {INSTALL}")


def _candidates() -> tuple[str, ...]:
    if sys.platform != "linux":
        return ("glfw",)
    has_display = bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    return BACKENDS if has_display else BACKENDS[:2]


def _why_not(backend: str, program: str) -> str | None:
    """Runs a program under an OpenGL; returns the last line of its complaints, None if it works."""
    # The package may have been found in ways that a new interpreter does not know of.
    path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    try:
        done = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, VARIABLE: backend, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"no answer within {_TIMEOUT_S:g} s"
    if done.returncode == 0:
        return None
    complaints = done.stderr.split("\n\n")[0].strip().splitlines()
    if not complaints:
        return f"exit code {done.returncode}"
    return textwrap.shorten(complaints[-1], 120, placeholder=" ...")


def draw_a_ball() -> None:
    """Draws something as videos are drawn; what runs in the processes that try an OpenGL.

    Raises:
        RuntimeError: If nothing was drawn.
    """
    import mujoco
    from gymnasium.envs.mujoco.mujoco_rendering import OffScreenViewer

    model = mujoco.MjModel.from_xml_string(_BALL)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    viewer: Any = OffScreenViewer(model, data, 64, 64)
    picture = viewer.render("rgb_array")
    viewer.free()
    if picture.max() == picture.min():
        raise RuntimeError("the picture is empty")


@contextmanager
def using(backend: str) -> Iterator[None]:
    """Lets Gymnasium's viewers that are made meanwhile draw with an OpenGL, if any is named."""
    if not backend:
        yield
        return
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = backend
    try:
        yield
    finally:
        if before is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = before
