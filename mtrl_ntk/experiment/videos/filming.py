"""Videos of a policy: one MP4 per task, and a mosaic of all of them."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
from gymnasium.envs.mujoco.mujoco_rendering import OffScreenViewer
from metaworld.sawyer_xyz_env import SawyerXYZEnv

from mtrl_ntk.experiment.options.sections import VideoConfig
from mtrl_ntk.experiment.types import FloatArray, PolicyFunction
from mtrl_ntk.experiment.videos.encoding import WriteFrame, mp4_writer
from mtrl_ntk.experiment.videos.frames import Caption, Frame, Mosaic, Picture, captioned, even
from mtrl_ntk.experiment.videos.opengl import RenderingError, find_backend, using
from mtrl_ntk.rl.envs.task_env import OBSERVATION_DIM, EpisodeRules, TaskEnv

STEPS_PER_SECOND = 80
"""Of the simulation: videos play at its own pace."""
HOLD_SECONDS = 1.0
"""How long the last frame of an episode stays."""
_EXPENSIVE_EFFECTS = (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION)


@dataclass(frozen=True)
class Scene:
    """The episodes that are filmed: those that an evaluation of the same seed begins with."""

    tasks: tuple[str, ...]
    """Task names, in the order of the policy's first axis."""
    rules: EpisodeRules
    """What an episode is."""
    seed: int
    """Seed of the goals."""


def require_video() -> str:
    """Returns the OpenGL to make videos with.

    Raises:
        RenderingError: If none works here, or if no encoder is installed.
    """
    if importlib.util.find_spec("imageio_ffmpeg") is None:
        raise RenderingError(
            "imageio-ffmpeg, which encodes videos, is missing; pip install imageio-ffmpeg"
        )
    return find_backend()


def film(
    policy: PolicyFunction,
    scene: Scene,
    config: VideoConfig,
    mosaic: Path,
    *,
    backend: str,
    task_folder: Path | None = None,
    report: Callable[[], None] = lambda: None,
) -> list[Path]:
    """Makes videos of a policy.

    Args:
        policy: The policy.
        scene: The episodes.
        config: What the videos show.
        mosaic: File of the mosaic of all tasks.
        backend: OpenGL to draw with, one that was found to work.
        task_folder: Folder for a video of each task; None for none.
        report: Called after each task.

    Returns:
        The files, the mosaic first.

    Raises:
        RenderingError: If drawing or encoding fails.
    """
    files = [mosaic]
    reel = Mosaic(len(scene.tasks), config)
    for index, task in enumerate(scene.tasks):
        with ExitStack() as stack:
            frames = stack.enter_context(closing(_frames(policy, scene, index, config, backend)))
            write: WriteFrame | None = None
            if task_folder is not None:
                files.append(task_folder / f"{task}.mp4")
                write = stack.enter_context(mp4_writer(files[-1], _rate(config)))
            for frame in frames:
                reel.add(index, frame)
                if write is not None:
                    write(captioned(frame))
        report()
    with mp4_writer(mosaic, _rate(config)) as write:
        for image in reel.frames():
            write(image)
    return files


def _rate(config: VideoConfig) -> float:
    return STEPS_PER_SECOND / config.video_stride


def _frames(
    policy: PolicyFunction, scene: Scene, index: int, config: VideoConfig, backend: str
) -> Generator[Frame, None, None]:
    """The frames of one task's episodes, with a pause on the last of each."""
    env = TaskEnv(scene.tasks[index], scene.rules, seed=scene.seed)
    observations = np.zeros((len(scene.tasks), 1, OBSERVATION_DIM), np.float32)

    def act(observation: FloatArray) -> FloatArray:
        observations[index] = observation
        action: FloatArray = policy(observations)[index, 0]
        return action

    with closing(env), closing(TaskCamera(env.sim, config, backend)) as camera:
        for _ in range(config.video_episodes):
            for frame in episode_frames(act, env, camera.picture, config.video_stride):
                yield frame
            for _ in range(round(HOLD_SECONDS * _rate(config))):
                yield frame


def episode_frames(
    act: Callable[[FloatArray], FloatArray],
    env: TaskEnv,
    picture: Callable[[], Picture],
    stride: int,
) -> Iterator[Frame]:
    """Runs an episode; yields a frame of its start, of every ``stride``-th step and of its end."""
    observation = env.reset()
    caption = Caption(env.name, env.goal_index, 0, env.rules.horizon, 0.0, False, False)
    yield Frame(picture(), caption)
    while not caption.over:
        step = env.step(act(observation))
        observation = step.observation
        caption = replace(
            caption,
            step=step.episode_length,
            episode_return=step.episode_return,
            success=step.success,
            over=step.terminated or step.truncated,
        )
        if caption.over or caption.step % stride == 0:
            yield Frame(picture(), caption)


class _Viewer(OffScreenViewer):
    """A viewer that frees all it holds, once, also when it could not be made."""

    opengl_context: Any = None
    con: Any = None

    def free(self) -> None:
        if self.opengl_context is not None:
            self.make_context_current()  # type: ignore[no-untyped-call]
            if self.con is not None:
                self.con.free()
            self.opengl_context.free()
            self.opengl_context = None


class TaskCamera:
    """Takes pictures of a simulation, the right way up.

    Shadows, reflections and multisampling are off: on a CPU they take nine tenths of the time.

    Args:
        sim: The simulation.
        config: Which camera, and how large the pictures are.
        backend: OpenGL to draw with.
    """

    def __init__(self, sim: SawyerXYZEnv, config: VideoConfig, backend: str) -> None:
        model, size = sim.model, even(config.video_size)
        model.vis.quality.offsamples = 0
        model.vis.global_.offwidth = max(model.vis.global_.offwidth, size)
        model.vis.global_.offheight = max(model.vis.global_.offheight, size)
        self._camera: int = model.camera(config.video_camera).id
        # The library mounts its corner cameras with their upper side down.
        upwards = sim.data.cam_xmat[self._camera].reshape(3, 3)[2, 1]
        self._is_upside_down = bool(upwards < -0.1)
        try:
            with using(backend):
                self._viewer: Any = _Viewer(model, sim.data, size, size)
        except Exception as error:  # of as many types as there are libraries
            raise RenderingError(f"{backend} cannot draw: {error}") from error
        for effect in _EXPENSIVE_EFFECTS:
            self._viewer.scn.flags[effect] = False

    def picture(self) -> Picture:
        """What the camera sees now."""
        self._viewer.make_context_current()
        picture: Picture = self._viewer.render("rgb_array", self._camera)
        # Turned, not mirrored: left stays left.
        return picture[::-1, ::-1] if self._is_upside_down else picture

    def close(self) -> None:
        """Frees what the drawing needs."""
        self._viewer.free()
