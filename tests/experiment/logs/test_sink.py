"""A new kind of log is one class and one entry of the list."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from mtrl_ntk.experiment.files.growing_file import GrowingFile
from mtrl_ntk.experiment.logs import logger as run_logger
from mtrl_ntk.experiment.logs.logger import RunLogger, final_metrics
from mtrl_ntk.experiment.logs.sink import LoggedRun, Sink
from mtrl_ntk.experiment.types import Counts, LogPosition
from tests.experiment.logs.logged import RESULT, TASKS, counters


class JsonLinesSink(Sink):
    """A kind of log that is in no list: a line of JSON for whatever comes."""

    def __init__(self, run: LoggedRun) -> None:
        self._file = GrowingFile(run.run_dir / "log.jsonl")
        self.files = (self._file,)
        self._add({"settings": run.settings})

    def log_scalars(self, counters: Counts, scalars: Mapping[str, float]) -> None:
        self._add({"step": counters.step, **scalars})

    def log_images(self, counters: Counts, images: Mapping[str, npt.NDArray[np.uint8]]) -> None:
        self._add({"step": counters.step, "images": [*images]})

    def log_video(self, counters: Counts, tag: str, gif: bytes) -> None:
        self._add({"step": counters.step, tag: len(gif)})

    def _add(self, content: Mapping[str, object]) -> None:
        self._file.add(json.dumps(content).encode() + b"\n")


def test_a_new_kind_of_log_is_one_class_and_one_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_logger, "SINKS", (*run_logger.SINKS, JsonLinesSink))
    with RunLogger(tmp_path, TASKS, settings={"seed": 3}) as logger:
        logger.log_training(counters(1), {"losses/critic": 1.5})
        logger.log_evaluation(counters(2), RESULT)
        logger.log_diagnosis(counters(3), {"kernels/x": 2.0}, {"p": np.zeros((4, 4, 3), np.uint8)})
        logger.log_video(counters(4), "videos/evaluation", gif())
        logger.log_results(counters(4), {})
        assert asdict(logger.position(4)).keys() == asdict(LogPosition()).keys()
        lines = [*map(json.loads, (tmp_path / "log.jsonl").read_text().splitlines())]
    assert [line.pop("step", None) for line in lines] == [None, 1, 2, 3, 3, 4, 4]
    settings, training, evaluation, images, kernels, video, results = lines
    assert settings == {"settings": {"seed": 3}}
    assert (training, kernels) == ({"losses/critic": 1.5}, {"kernels/x": 2.0})
    assert evaluation["charts/mean_success_rate"] == 0.75
    assert (images, video) == ({"images": ["p"]}, {"videos/evaluation": len(gif())})
    assert results == final_metrics([0.75])
    assert {path.name for path in tmp_path.glob("*.csv")} == {"training.csv", "evaluation.csv"}


def gif() -> bytes:
    content = io.BytesIO()
    Image.new("P", (4, 4)).save(content, "GIF")
    return content.getvalue()
