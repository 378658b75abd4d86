"""What a run writes can be read back, row by row."""

from __future__ import annotations

import csv
import json
import math
import os
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]
    EventAccumulator,
)
from tensorboard.backend.event_processing.event_file_loader import (  # type: ignore[import-untyped]
    EventFileLoader,
)

from mtrl_ntk.errors import UserError
from mtrl_ntk.experiment.logs.logger import RunLogger
from mtrl_ntk.experiment.types import Counters, EvaluationResult, LogPosition

TASKS = ("reach-v3", "push-v3")


RESULT = EvaluationResult(TASKS, np.array([0.5, 1.0]), np.array([100.0, 301.0]), episodes=50)


def counters(step: int) -> Counters:
    return Counters(vector_steps=step, env_steps=10 * step, updates=step // 2, seconds=step / 7)


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def read_events(run_dir: Path) -> EventAccumulator:
    events = EventAccumulator(str(run_dir))
    events.Reload()
    return events


def test_training_rows_come_back_as_written(tmp_path: Path) -> None:
    with RunLogger(tmp_path, TASKS) as logger:
        logger.log_training(counters(7), {"losses/critic": float("nan"), "rate": 3.0})
        logger.log_training(counters(14), {"rate": 1e-12, "losses/critic": float(np.float32(0.1))})
    assert (tmp_path / "training.csv").read_text().splitlines() == [
        "vector_steps,env_steps,updates,seconds,losses/critic,rate",
        "7,70,3,1,,3",
        "14,140,7,2,0.100000001,1e-12",
    ]


@pytest.mark.parametrize("value", [np.float32(1 / 3), np.float32(1e38), np.float32(1e-45)])
def test_a_float32_survives_the_csv(tmp_path: Path, value: np.float32) -> None:
    with RunLogger(tmp_path, TASKS) as logger:
        logger.log_training(counters(1), {"value": float(value)})
    assert np.float32(read_csv(tmp_path / "training.csv")[0]["value"]) == value


def test_training_scalars_reach_tensorboard_without_nan(tmp_path: Path) -> None:
    with RunLogger(tmp_path, TASKS) as logger:
        logger.log_training(counters(7), {"a": 1.5, "b": float("nan")})
        logger.log_training(counters(14), {"a": 2.5, "b": 4.0})
    events = read_events(tmp_path)
    assert [(event.step, event.value) for event in events.Scalars("a")] == [(7, 1.5), (14, 2.5)]
    assert [(event.step, event.value) for event in events.Scalars("b")] == [(14, 4.0)]


def test_a_diagnosis_goes_to_tensorboard_alone(tmp_path: Path) -> None:
    image = np.zeros((3, 5, 3), np.uint8)
    with RunLogger(tmp_path, TASKS) as logger:
        logger.log_diagnosis(counters(7), {"a": 1.5, "b": math.nan}, {"picture": image})
        logger.log_training(counters(8), {"c": 1.0})
    events = read_events(tmp_path)
    assert [(event.step, event.value) for event in events.Scalars("a")] == [(7, 1.5)]
    assert "b" not in events.Tags()["scalars"]
    (picture,) = events.Images("picture")
    assert (picture.step, picture.width, picture.height) == (7, 5, 3)
    assert [row["vector_steps"] for row in read_csv(tmp_path / "training.csv")] == ["8"]


def test_a_scalar_unknown_to_the_first_row_is_an_error(tmp_path: Path) -> None:
    with RunLogger(tmp_path, TASKS) as logger:
        logger.log_training(counters(1), {"a": 1.0, "b": 1.0})
        with pytest.raises(ValueError, match=r"no columns \['c'\]"):
            logger.log_training(counters(2), {"a": 2.0, "c": 2.0})
        logger.log_training(counters(3), {"a": 3.0})
    assert [(row["a"], row["b"]) for row in read_csv(tmp_path / "training.csv")] == [
        ("1", "1"),
        ("3", ""),
    ]


def test_an_evaluation_has_a_row_per_task_and_their_mean(tmp_path: Path) -> None:
    with RunLogger(tmp_path, TASKS) as logger:
        logger.log_evaluation(counters(7), RESULT)
    assert (tmp_path / "evaluation.csv").read_text().splitlines() == [
        "vector_steps,env_steps,updates,seconds,task,success_rate,mean_return,episodes",
        "7,70,3,1,reach-v3,0.5,100,50",
        "7,70,3,1,push-v3,1,301,50",
        "7,70,3,1,mean,0.75,200.5,50",
    ]
    events = read_events(tmp_path)
    scalars = {tag: events.Scalars(tag)[0].value for tag in events.Tags()["scalars"]}
    assert scalars == {
        "charts/mean_success_rate": 0.75,
        "charts/mean_return": 200.5,
        "charts/reach-v3_success_rate": 0.5,
        "charts/reach-v3_return": 100.0,
        "charts/push-v3_success_rate": 1.0,
        "charts/push-v3_return": 301.0,
    }
    assert events.Scalars("charts/mean_return")[0].step == 7


def test_an_evaluation_of_other_tasks_is_an_error(tmp_path: Path) -> None:
    with RunLogger(tmp_path, TASKS[::-1]) as logger, pytest.raises(ValueError, match="push-v3"):
        logger.log_evaluation(counters(7), RESULT)


def test_rows_are_on_disk_before_the_run_ends(tmp_path: Path) -> None:
    with RunLogger(tmp_path, TASKS) as logger:
        logger.log_training(counters(7), {"a": 1.0})
        logger.log_evaluation(counters(7), RESULT)
        assert len(read_csv(tmp_path / "training.csv")) == 1
        assert len(read_csv(tmp_path / "evaluation.csv")) == 3
        assert "charts/mean_return" in read_events(tmp_path).Tags()["scalars"]


def test_an_earlier_run_is_never_overwritten(tmp_path: Path) -> None:
    with RunLogger(tmp_path, TASKS) as logger:
        logger.log_training(counters(7), {"a": 1.0})
    before = (tmp_path / "training.csv").read_bytes()
    with pytest.raises(UserError, match="already holds a run"):
        RunLogger(tmp_path, TASKS)
    assert (tmp_path / "training.csv").read_bytes() == before


def test_files_are_closed_when_the_run_fails(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), RunLogger(tmp_path, TASKS) as logger:
        raise KeyboardInterrupt
    with pytest.raises(ValueError, match="closed"):
        logger.log_training(counters(1), {"a": 1.0})


def test_tensorboard_opens_grouped(tmp_path: Path) -> None:
    with RunLogger(tmp_path, TASKS):
        pass
    assert "custom_scalars__config__" in read_events(tmp_path).Tags()["tensors"]


def test_a_folder_that_cannot_be_made_is_the_users_mistake(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot write the run's folder .*; choose --run-dir"):
        RunLogger(tmp_path / "file" / "run", TASKS)


def test_nan_is_the_only_value_left_out(tmp_path: Path) -> None:
    with RunLogger(tmp_path, TASKS) as logger:
        logger.log_training(counters(1), {"a": math.inf, "b": 0.0, "c": -1.0})
    row = read_csv(tmp_path / "training.csv")[0]
    assert [row["a"], row["b"], row["c"]] == ["inf", "0", "-1"]


def log_until(logger: RunLogger, steps: range) -> None:
    for step in steps:
        logger.log_training(counters(step), {"a": float(step), "b": float("nan")})
        if step % 2 == 0:
            logger.log_evaluation(counters(step), RESULT)


def every_event(run_dir: Path) -> list[tuple[str, int]]:
    """Tag and step of all scalars on the disk, whether TensorBoard would show them or not."""
    found = []
    for path in sorted(run_dir.glob("events.*"), key=lambda path: path.stat().st_mtime_ns):
        for event in EventFileLoader(str(path)).Load():
            found += [(value.tag, event.step) for value in event.summary.value]
    return found


@pytest.mark.parametrize("extra", [0, 1, 3])
def test_logs_are_continued_where_a_checkpoint_was_saved(tmp_path: Path, extra: int) -> None:
    with RunLogger(tmp_path / "straight", TASKS) as logger:
        log_until(logger, range(1, 9))
    with RunLogger(tmp_path / "parts", TASKS) as logger:
        log_until(logger, range(1, 6))
        position = logger.position(5)
        log_until(logger, range(6, 6 + extra))
    for path in (tmp_path / "parts").glob("*.csv"):
        with path.open("a") as file:
            file.write("half a ro" * (extra > 0))
    position = LogPosition(**json.loads(json.dumps(asdict(position))))
    with RunLogger(tmp_path / "parts", TASKS, position) as logger:
        log_until(logger, range(6, 9))
    for name in ("training.csv", "evaluation.csv"):
        straight, parts = (tmp_path / run / name for run in ("straight", "parts"))
        assert parts.read_bytes() == straight.read_bytes()
    assert every_event(tmp_path / "parts") == every_event(tmp_path / "straight")
    shown = [read_events(tmp_path / run).Scalars("a") for run in ("straight", "parts")]
    assert [[event.step for event in events] for events in shown] == [[*range(1, 9)]] * 2


def test_what_a_later_attempt_has_logged_goes_too(tmp_path: Path) -> None:
    with RunLogger(tmp_path, TASKS) as logger:
        log_until(logger, range(1, 4))
        position = logger.position(3)
    for _ in range(2):
        with RunLogger(tmp_path, TASKS, position) as logger:
            log_until(logger, range(4, 7))
    steps = [step for tag, step in every_event(tmp_path) if tag == "a"]
    assert steps == [1, 2, 3, 4, 5, 6]


def test_a_tensorboard_that_has_shown_more_takes_it_back(tmp_path: Path) -> None:
    with RunLogger(tmp_path, TASKS) as logger:
        log_until(logger, range(1, 4))
        position = logger.position(3)
        log_until(logger, range(4, 9))
        watching = read_events(tmp_path)
        assert len(watching.Scalars("a")) == 8
    with RunLogger(tmp_path, TASKS, position) as logger:
        log_until(logger, range(4, 6))
        watching.Reload()
    assert [event.step for event in watching.Scalars("a")] == [1, 2, 3, 4, 5]


def test_a_run_without_a_checkpoint_starts_its_logs_again(tmp_path: Path) -> None:
    with RunLogger(tmp_path, TASKS) as logger:
        log_until(logger, range(1, 4))
    with RunLogger(tmp_path, TASKS, LogPosition()) as logger:
        logger.log_training(counters(1), {"other": 1.0})
    assert (tmp_path / "training.csv").read_text().splitlines() == [
        "vector_steps,env_steps,updates,seconds,other",
        "1,10,0,0.142857143,1",
    ]
    assert {tag for tag, _ in every_event(tmp_path)} == {"custom_scalars__config__", "other"}


def test_lost_rows_are_a_warning_and_no_row_is_half(tmp_path: Path) -> None:
    with RunLogger(tmp_path, TASKS) as logger:
        log_until(logger, range(1, 6))
        position = logger.position(5)
    path = tmp_path / "training.csv"
    os.truncate(path, path.stat().st_size - 20)
    with (
        pytest.warns(UserWarning, match=r"training.csv has lost rows since its checkpoint"),
        RunLogger(tmp_path, TASKS, position) as logger,
    ):
        log_until(logger, range(6, 7))
    assert [row["vector_steps"] for row in read_csv(path)] == ["1", "2", "3", "4", "6"]
