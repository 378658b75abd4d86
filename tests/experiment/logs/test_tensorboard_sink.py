"""What TensorBoard shows of a run, read with TensorBoard's own reader."""

from __future__ import annotations

import math
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

from mtrl_ntk.experiment.config import FIXED, SHARED, from_dict, to_dict
from mtrl_ntk.experiment.logs.logger import RunLogger, final_metrics
from mtrl_ntk.experiment.types import Counters, EvaluationResult
from tests.experiment.logs.logged import RESULT, TASKS, counters, log_until, read_csv, read_events

CONFIG = from_dict({"method": "cagrad", "tasks": ["reach-v3"], "seed": 4})
SETTINGS = to_dict(CONFIG, SHARED | FIXED)


def test_training_scalars_reach_tensorboard_without_nan(tmp_path: Path) -> None:
    with RunLogger(tmp_path, TASKS) as logger:
        logger.log_training(counters(7), {"a": 1.5, "b": float("nan")})
        logger.log_training(counters(14), {"a": 2.5, "b": 4.0})
    events = read_events(tmp_path)
    assert [(e.step, e.value) for e in events.Scalars("training/a")] == [(7, 1.5), (14, 2.5)]
    assert [(event.step, event.value) for event in events.Scalars("training/b")] == [(14, 4.0)]


def test_an_evaluation_has_charts_per_task_and_of_their_mean(tmp_path: Path) -> None:
    with RunLogger(tmp_path, TASKS) as logger:
        logger.log_evaluation(counters(7), RESULT)
    events = read_events(tmp_path)
    scalars = {tag: events.Scalars(tag)[0].value for tag in events.Tags()["scalars"]}
    assert scalars == {
        "success/mean": 0.75,
        "task_return/mean": 200.5,
        "success_by_task/reach-v3": 0.5,
        "task_return/reach-v3": 100.0,
        "success_by_task/push-v3": 1.0,
        "task_return/push-v3": 301.0,
    }
    assert events.Scalars("task_return/mean")[0].step == 7


def test_the_mean_success_is_the_first_chart(tmp_path: Path) -> None:
    image = np.zeros((3, 5, 3), np.uint8)
    scalars = (
        "losses/critic/reach-v3",
        "charts/training_return/reach-v3",
        "charts/x",
        "0",
        "ntk/A",
    )
    with RunLogger(tmp_path, TASKS) as logger:
        logger.log_training(counters(7), dict.fromkeys(scalars, 1.0))
        logger.log_evaluation(counters(7), RESULT)
        logger.log_diagnosis(counters(7), {"kernels/critic/x": 1.0}, {"kernels/critic": image})
        logger.log_images(counters(7), {"plots/success": image})
        logger.log_results(counters(7), SETTINGS)
    tags = read_events(tmp_path).Tags()
    # TensorBoard sorts by characters, the parts between slashes one after the other.
    in_order = sorted([*tags["scalars"], *tags["images"]], key=lambda tag: tag.split("/"))
    assert in_order[0] == "success/mean"
    assert "training_plots/success" in tags["images"]
    assert {"training_return/reach-v3", "training_losses/critic/reach-v3"} <= {*tags["scalars"]}


def test_a_diagnosis_goes_to_tensorboard_alone(tmp_path: Path) -> None:
    image = np.zeros((3, 5, 3), np.uint8)
    with RunLogger(tmp_path, TASKS) as logger:
        logger.log_diagnosis(counters(7), {"a": 1.5, "b": math.nan}, {"picture": image})
        logger.log_training(counters(8), {"c": 1.0})
    events = read_events(tmp_path)
    assert [(event.step, event.value) for event in events.Scalars("training/a")] == [(7, 1.5)]
    assert "training/b" not in events.Tags()["scalars"]
    (picture,) = events.Images("training/picture")
    assert (picture.step, picture.width, picture.height) == (7, 5, 3)
    assert [row["vector_steps"] for row in read_csv(tmp_path / "training.csv")] == ["8"]


def test_tensorboard_opens_grouped(tmp_path: Path) -> None:
    with RunLogger(tmp_path, TASKS):
        pass
    assert "custom_scalars__config__" in read_events(tmp_path).Tags()["tensors"]


def test_a_tensorboard_that_has_shown_more_takes_it_back(tmp_path: Path) -> None:
    with RunLogger(tmp_path, TASKS) as logger:
        log_until(logger, range(1, 4))
        position = logger.position(3)
        log_until(logger, range(4, 9))
        watching = read_events(tmp_path)
        assert len(watching.Scalars("training/a")) == 8
    with RunLogger(tmp_path, TASKS, position) as logger:
        log_until(logger, range(4, 6))
        watching.Reload()
    assert [event.step for event in watching.Scalars("training/a")] == [1, 2, 3, 4, 5]


def at(step: int) -> Counters:
    return Counters(step, step, step, 1.0)


def write_run(run_dir: Path, *success: float) -> None:
    with RunLogger(run_dir, ["reach-v3"]) as logger:
        for step, rate in enumerate(success, 1):
            result = EvaluationResult(("reach-v3",), np.array([rate]), np.array([0.0]), 1)
            logger.log_evaluation(at(step), result)
        logger.log_results(at(len(success)), SETTINGS)


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
    assert metrics == {f"success_{tag}": "" for tag in final_metrics([0.0])}
    values = {tag: [each.value for each in events.Scalars(tag)] for tag in metrics}
    assert values == {
        "success_final/success_rate": [0.5],
        "success_final/mean_of_last_5": [0.5],
        "success_final/max_success_rate": [0.75],
    }
    # In TensorBoard's own order: what runs differ in, by name.
    columns = sorted(experiment.hparam_infos, key=lambda info: (not info.differs, info.name))
    assert [info.name for info in columns[:2]] == ["method", "seed"]
    assert {info.name for info in experiment.hparam_infos if info.differs} == {"method", "seed"}
    assert [info.name for info in experiment.hparam_infos][:2] == ["method", "seed"]


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
    found = [(each.step, each.value) for each in events.Scalars("success_final/max_success_rate")]
    assert found == [(2, 0.75)]


def test_a_run_without_evaluations_has_nothing_to_show(tmp_path: Path) -> None:
    write_run(tmp_path)
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert events.PluginTagToContent("custom_scalars")
    with pytest.raises(KeyError):
        events.PluginTagToContent("hparams")
