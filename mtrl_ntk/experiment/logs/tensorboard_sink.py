"""What TensorBoard shows of a run: charts, images, videos, and hyper-parameters at its end.

It sorts charts by their tags. The mean success comes first, so that it is what a page opens with:
all that is no evaluation has its tag, as in ``training.csv``, behind ``training_``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[import-untyped]
from tensorboard.plugins.hparams.plugin_data_pb2 import (  # type: ignore[import-untyped]
    HParamsPluginData,
)
from torch.utils.tensorboard import summary as summaries

from mtrl_ntk.experiment.logs.events import EventFile, cut_events, event_files
from mtrl_ntk.experiment.logs.sink import LoggedRun, Sink
from mtrl_ntk.experiment.types import Counts, Evaluation


class TensorBoardSink(Sink):
    """Writes a file of events; a run that goes on adds one of its own."""

    def __init__(self, run: LoggedRun) -> None:
        self._run_dir, self._group = run.run_dir, run.kind.group
        if run.position is None:
            self._events = EventFile(run.run_dir)
        else:
            cut_events(run.run_dir, run.position.events)
            # A TensorBoard that has already shown what was cut off takes it back.
            self._events = EventFile(run.run_dir, purge_step=run.position.step + 1)
        if run.position is None or not run.position.events:
            self._events.add_layout(run.kind.layout)
        self.files = (self._events,)

    def log_scalars(self, counters: Counts, scalars: Mapping[str, float]) -> None:
        """Adds a point to each chart."""
        shown = {_training_tag(tag): value for tag, value in scalars.items()}
        self._events.add_scalars(counters.step, shown)

    def log_evaluation(self, counters: Counts, result: Evaluation) -> None:
        """Adds a point to the charts of its numbers."""
        self._events.add_scalars(counters.step, result.charts())

    def log_images(self, counters: Counts, images: Mapping[str, npt.NDArray[np.uint8]]) -> None:
        """Adds images."""
        for tag, image in images.items():
            self._events.add_image(counters.step, _training_tag(tag), image)

    def log_video(self, counters: Counts, tag: str, gif: bytes) -> None:
        """Shows a video among the images."""
        self._events.add_gif(counters.step, _training_tag(tag), gif)

    def log_results(
        self, counters: Counts, settings: Mapping[str, object], metrics: Mapping[str, float]
    ) -> None:
        """Adds settings and metrics to the run's own events; it stays one run to TensorBoard."""
        known = {name: _plain(value) for name, value in settings.items() if value is not None}
        first = {name: known.pop(name) for name in _FIRST_SETTINGS if name in known}
        shown = {f"{self._group}_{tag}": value for tag, value in metrics.items()}
        experiment, *others = summaries.hparams(first | known, shown)
        for summary in (_with_first(experiment, first), *others):
            self._events.add_summary(summary, counters.step)
        self._events.add_scalars(counters.step, shown)

    def position(self) -> Mapping[str, dict[str, int]]:
        """Bytes of each file of events, by name."""
        sizes = {path.name: path.stat().st_size for path in event_files(self._run_dir)}
        return {"events": sizes | {self._events.path.name: self._events.size}}


_FIRST_SETTINGS = ("method", "seed")


def _with_first(experiment: Summary, first: Collection[str]) -> Summary:
    """Marks settings as those that runs differ in, which TensorBoard shows before all others."""
    (value,) = experiment.value
    data = HParamsPluginData.FromString(value.metadata.plugin_data.content)
    for info in data.experiment.hparam_infos:
        info.differs = info.name in first
    value.metadata.plugin_data.content = data.SerializeToString()
    return experiment


def _training_tag(tag: str) -> str:
    name = tag.removeprefix("charts/").removeprefix("training_")
    return f"training_{name}" if "/" in name else f"training/{name}"


def _plain(value: Any) -> bool | float | str:  # noqa: ANN401 - as YAML has it
    if isinstance(value, list):
        return ",".join(map(str, value))
    return value if isinstance(value, bool | int | float) else str(value)
