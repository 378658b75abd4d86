"""Videos of a policy: one MP4 per task, and a mosaic of all of them."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from mtrl_ntk.experiment.options.sections import VideoConfig
from mtrl_ntk.experiment.types import PolicyFunction
from mtrl_ntk.experiment.videos.encoding import WriteFrame, mp4_writer
from mtrl_ntk.experiment.videos.frames import Caption, Frame, Mosaic, Pixels, captioned, even
from mtrl_ntk.experiment.videos.opengl import RenderingError, find_backend, using
from mtrl_ntk.rl.envs import TaskEnv
from mtrl_ntk.rl.suites.suite import Camera, EpisodeRules, Suite
from mtrl_ntk.rl.types import FloatArray

HOLD_SECONDS = 1.0
"""How long the last frame of an episode stays."""


@dataclass(frozen=True)
class Scene:
    """The episodes that are filmed: those that an evaluation of the same seed begins with."""

    suite: Suite
    """What the tasks belong to."""
    tasks: tuple[str, ...]
    """Task names, in the order of the policy's first axis."""
    rules: EpisodeRules
    """What an episode is."""
    seed: int
    """Seed of the goals."""


def require_video(suite: Suite) -> str:
    """Returns the OpenGL to make videos with; an empty name where none works nor is needed.

    Raises:
        RenderingError: If none works here, or if no encoder is installed.
    """
    if importlib.util.find_spec("imageio_ffmpeg") is None:
        raise RenderingError(
            "imageio-ffmpeg, which encodes videos, is missing; pip install imageio-ffmpeg"
        )
    try:
        return find_backend()
    except RenderingError:
        if suite.needs_opengl:
            raise
        return ""


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
        backend: OpenGL to draw with, one that was found to work; empty for none.
        task_folder: Folder for a video of each task; None for none.
        report: Called after each task.

    Returns:
        The files, the mosaic first.

    Raises:
        RenderingError: If drawing or encoding fails.
    """
    files = [mosaic]
    # Videos play at the pace of the simulation.
    rate = scene.suite.steps_per_second / config.video_stride
    reel = Mosaic(len(scene.tasks), config)
    for index, task in enumerate(scene.tasks):
        with ExitStack() as stack:
            frames = stack.enter_context(
                closing(_frames(policy, scene, index, config, rate, backend))
            )
            write: WriteFrame | None = None
            if task_folder is not None:
                files.append(task_folder / f"{task}.mp4")
                write = stack.enter_context(mp4_writer(files[-1], rate))
            for frame in frames:
                reel.add(index, frame)
                if write is not None:
                    write(captioned(frame))
        report()
    with mp4_writer(mosaic, rate) as write:
        for image in reel.frames():
            write(image)
    return files


def _frames(
    policy: PolicyFunction,
    scene: Scene,
    index: int,
    config: VideoConfig,
    rate: float,
    backend: str,
) -> Generator[Frame, None, None]:
    """The frames of one task's episodes, with a pause on the last of each."""
    suite = scene.suite
    env = TaskEnv(scene.tasks[index], scene.rules, seed=scene.seed, suite=suite)
    observations = np.zeros((len(scene.tasks), 1, suite.observation_dim), np.float32)

    def act(observation: FloatArray) -> FloatArray:
        observations[index] = observation
        action: FloatArray = policy(observations)[index, 0]
        return action

    with closing(env), closing(make_camera(env, config, backend)) as camera:
        for _ in range(config.video_episodes):
            picture = partial(_picture, camera)
            for frame in episode_frames(act, env, picture, config.video_stride):
                yield frame
            for _ in range(round(HOLD_SECONDS * rate)):
                yield frame


def episode_frames(
    act: Callable[[FloatArray], FloatArray],
    env: TaskEnv,
    picture: Callable[[], Pixels],
    stride: int,
) -> Iterator[Frame]:
    """Runs an episode; yields a frame of its start, of every ``stride``-th step and of its end."""
    observation = env.reset()
    succeeds = None if env.suite.success is None else False
    caption = Caption(env.name, env.goal_index, 0, env.rules.horizon, 0.0, succeeds, False)
    yield Frame(picture(), caption)
    while not caption.over:
        step = env.step(act(observation))
        observation = step.observation
        caption = replace(
            caption,
            step=step.episode_length,
            episode_return=step.episode_return,
            success=None if succeeds is None else step.success,
            over=step.terminated or step.truncated,
        )
        if caption.over or caption.step % stride == 0:
            yield Frame(picture(), caption)


def _picture(camera: Camera) -> Pixels:
    try:
        return camera.picture()
    except Exception as error:  # of as many types as there are environments
        raise RenderingError(f"a picture cannot be drawn: {error}") from error


def make_camera(env: TaskEnv, config: VideoConfig, backend: str) -> Camera:
    """A camera that takes pictures of a task.

    Args:
        env: The task.
        config: Which camera, and how large the pictures are.
        backend: OpenGL to draw with.

    Raises:
        RenderingError: If it cannot draw.
    """
    try:
        with using(backend):
            name = config.video_camera or env.suite.default("video_camera")
            return env.simulation.camera(name, even(config.video_size))
    except Exception as error:  # of as many types as there are libraries
        raise RenderingError(f"{backend or 'the environment'} cannot draw: {error}") from error
