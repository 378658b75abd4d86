"""A finished run and TensorBoard's page of hyper-parameters, read with TensorBoard's own reader."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]
    EventAccumulator,
)
from tensorboard.backend.event_processing.event_multiplexer import (  # type: ignore[import-untyped]
    EventMultiplexer,
)
from tensorboard.plugins.hparams.metadata import (  # type: ignore[import-untyped]
    parse_experiment_plugin_data,
    parse_session_start_info_plugin_data,
)

from mtrl_ntk.experiment.config import from_dict, to_dict
from mtrl_ntk.experiment.logs.logger import RunLogger, final_metrics
from mtrl_ntk.experiment.types import Counters, EvaluationResult

SETTINGS = to_dict(from_dict({"method": "cagrad", "tasks": ["reach-v3"], "seed": 4}))


def at(step: int) -> Counters:
    return Counters(step, step, step, 1.0)


def write_run(run_dir: Path, *success: float) -> None:
    with RunLogger(run_dir, ["reach-v3"]) as logger:
        for step, rate in enumerate(success, 1):
            result = EvaluationResult(("reach-v3",), np.array([rate]), np.array([0.0]), 1)
            logger.log_evaluation(at(step), result)
        logger.log_results(at(len(success)), SETTINGS)


def test_the_three_published_numbers_differ() -> None:
    metrics = final_metrics([0.0, 0.9, 0.1, 0.2, 0.3, 0.4, 0.5])
    assert metrics == {
        "final/success_rate": 0.5,
        "final/mean_of_last_5": pytest.approx(0.3),
        "final/max_success_rate": 0.9,
    }


def plugin_data(events: EventAccumulator, tag: str) -> bytes:
    content: dict[str, Any] = events.PluginTagToContent("hparams")
    data: bytes = content[tag]
    return data


def test_a_run_shows_its_settings_and_metrics(tmp_path: Path) -> None:
    write_run(tmp_path / "run", 0.25, 0.75, 0.5)
    multiplexer = EventMultiplexer().AddRunsFromDirectory(str(tmp_path))
    multiplexer.Reload()
    assert [*multiplexer.Runs()] == ["run"]  # no run of its own for the hyper-parameters
    events = multiplexer.GetAccumulator("run")
    start = parse_session_start_info_plugin_data(
        plugin_data(events, "_hparams_/session_start_info")
    )
    shown = start.hparams
    assert shown["method"].string_value == "cagrad"
    assert shown["tasks"].string_value == "reach-v3"
    assert (shown["seed"].number_value, shown["gamma"].number_value) == (4, 0.99)
    assert shown["total_steps"].number_value == 2_000_000
    assert not {"workers", "run_dir", "video_size"} & {*shown}
    experiment = parse_experiment_plugin_data(plugin_data(events, "_hparams_/experiment"))
    metrics = {info.name.tag: info.name.group for info in experiment.metric_infos}
    assert metrics == dict.fromkeys(final_metrics([0.0]), "")
    values = {tag: [each.value for each in events.Scalars(tag)] for tag in metrics}
    assert values == {
        "final/success_rate": [0.5],
        "final/mean_of_last_5": [0.5],
        "final/max_success_rate": [0.75],
    }


def test_a_run_that_is_extended_shows_its_new_end_only(tmp_path: Path) -> None:
    with RunLogger(tmp_path, ["reach-v3"]) as logger:
        position = logger.position(1)
        result = EvaluationResult(("reach-v3",), np.array([0.25]), np.array([0.0]), 1)
        logger.log_evaluation(at(1), result)
        logger.log_results(at(1), SETTINGS)
    with RunLogger(tmp_path, ["reach-v3"], position) as logger:
        result = EvaluationResult(("reach-v3",), np.array([0.75]), np.array([0.0]), 1)
        logger.log_evaluation(at(2), result)
        logger.log_results(at(2), SETTINGS)
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    found = [(each.step, each.value) for each in events.Scalars("final/max_success_rate")]
    assert found == [(2, 0.75)]


def test_a_run_without_evaluations_has_nothing_to_show(tmp_path: Path) -> None:
    write_run(tmp_path)
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert events.PluginTagToContent("custom_scalars")
    with pytest.raises(KeyError):
        events.PluginTagToContent("hparams")
