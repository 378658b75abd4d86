"""What TensorBoard shows of a run: charts, images, videos, and hyper-parameters at its end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from torch.utils.tensorboard import summary as summaries

from mtrl_ntk.experiment.logs.events import EventFile, cut_events, event_files
from mtrl_ntk.experiment.logs.sink import LoggedRun, Sink
from mtrl_ntk.experiment.types import Counters


class TensorBoardSink(Sink):
    """Writes a file of events; a run that goes on adds one of its own."""

    def __init__(self, run: LoggedRun) -> None:
        self._run_dir = run.run_dir
        if run.position is None:
            self._events = EventFile(run.run_dir)
        else:
            cut_events(run.run_dir, run.position.events)
            # A TensorBoard that has already shown what was cut off takes it back.
            self._events = EventFile(run.run_dir, purge_step=run.position.vector_steps + 1)
        if run.position is None or not run.position.events:
            self._events.add_layout(_layout())
        self.files = (self._events,)

    def log_scalars(self, counters: Counters, scalars: Mapping[str, float]) -> None:
        """Adds a point to each chart."""
        self._events.add_scalars(counters.vector_steps, scalars)

    def log_images(self, counters: Counters, images: Mapping[str, npt.NDArray[np.uint8]]) -> None:
        """Adds images."""
        for tag, image in images.items():
            self._events.add_image(counters.vector_steps, tag, image)

    def log_video(self, counters: Counters, tag: str, gif: bytes) -> None:
        """Shows a video among the images."""
        self._events.add_gif(counters.vector_steps, tag, gif)

    def log_results(
        self, counters: Counters, settings: Mapping[str, object], metrics: Mapping[str, float]
    ) -> None:
        """Adds settings and metrics to the run's own events; it stays one run to TensorBoard."""
        known = {name: _plain(value) for name, value in settings.items() if value is not None}
        for summary in summaries.hparams(known, dict(metrics)):
            self._events.add_summary(summary, counters.vector_steps)
        self.log_scalars(counters, metrics)

    def position(self) -> Mapping[str, dict[str, int]]:
        """Bytes of each file of events, by name."""
        sizes = {path.name: path.stat().st_size for path in event_files(self._run_dir)}
        return {"events": sizes | {self._events.path.name: self._events.size}}


def _plain(value: Any) -> bool | float | str:  # noqa: ANN401 - as YAML has it
    if isinstance(value, list):
        return ",".join(map(str, value))
    return value if isinstance(value, bool | int | float) else str(value)


def _layout() -> dict[str, dict[str, tuple[str, list[str]]]]:
    """Groups the charts on TensorBoard's "Custom Scalars" page; tags are regular expressions."""
    success = {
        "evaluation": ("Multiline", ["charts/[^/]*_success_rate$"]),
        "training": ("Multiline", ["charts/training_success_rate/.*"]),
    }
    groups = {
        group: {part: ("Multiline", [f"{group}/{part}/.*"]) for part in ("critic", "actor")}
        for group in ("weights", "ntk", "losses")
    }
    kernels = {
        f"{part}: {name.replace('_', ' ')}": ("Multiline", [f"kernels/{part}/{name}/.*"])
        for part in ("critic", "actor")
        for name in ("largest_eigenvalue", "condition_number")
    }
    health = {
        "skipped tasks": ("Multiline", ["skipped/.*"]),
        "restarted workers": ("Multiline", ["charts/worker_restarts"]),
        "gradient norms": ("Multiline", ["gradient_norm/.*"]),
        "steps per second": ("Multiline", ["charts/.*_per_second"]),
    }
    return {"success": success, **groups, "kernels": kernels, "health": health}
