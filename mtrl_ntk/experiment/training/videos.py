"""Videos of the policy while it learns: a mosaic of all tasks, made at evaluations."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from mtrl_ntk.experiment.config import RunConfig
from mtrl_ntk.experiment.evaluation.episodes import evaluation_rules
from mtrl_ntk.experiment.files.layout import VIDEOS
from mtrl_ntk.experiment.types import PolicyFunction
from mtrl_ntk.experiment.videos.encoding import write_gif
from mtrl_ntk.experiment.videos.filming import Scene, film, require_video
from mtrl_ntk.experiment.videos.opengl import RenderingError


class Recording(NamedTuple):
    """A video."""

    path: Path
    """The MP4 file."""
    gif: bytes
    """The same as an animated GIF, which TensorBoard can show."""


class TrainingVideos:
    """Films the policy of a run, as often as configured; a run goes on where that cannot be done.

    Args:
        config: The run's configuration.
        tasks: Names of its tasks.
        run_dir: Folder of the run.
        say: Shows a line to the user.
    """

    def __init__(
        self, config: RunConfig, tasks: tuple[str, ...], run_dir: Path, say: Callable[[str], None]
    ) -> None:
        self._config, self._say = config.video, say
        self._every, self._last = config.evaluation.video_every, config.loop.total_steps
        self._scene = Scene(config.env.task_suite, tasks, evaluation_rules(config.env), config.seed)
        self._folder = run_dir / VIDEOS
        self._backend: str | None = None
        if self._every:
            try:
                self._backend = require_video(self._scene.suite)
            except RenderingError as error:
                self._give_up(error)

    def is_due(self, step: int, before: int) -> bool:
        """Whether an evaluation is to be filmed.

        Args:
            step: Vector steps so far.
            before: Those of the evaluation before it; below zero for none.
        """
        if self._backend is None:
            return False
        return step == self._last or step // self._every > max(before, 0) // self._every

    def record(self, policy: PolicyFunction, step: int) -> Recording | None:
        """Films the first episodes of an evaluation; None if that fails."""
        if self._backend is None:
            return None
        path = self._folder / f"step-{step:09d}.mp4"
        try:
            film(policy, self._scene, self._config, path, backend=self._backend)
            with TemporaryDirectory() as folder:
                gif = Path(folder) / "mosaic.gif"
                write_gif(path, gif)
                return Recording(path, gif.read_bytes())
        except RenderingError as error:
            self._give_up(error)
            return None

    def _give_up(self, error: RenderingError) -> None:
        self._backend = None
        self._say(f"no video: {' '.join(str(error).split())}")
