"""The CSV files of a run can be read back, row by row."""

from __future__ import annotations

import codecs
import math
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mtrl_ntk.experiment.files.csv_files import read_rows
from mtrl_ntk.experiment.logs.logger import RunLogger
from tests.experiment.logs.logged import RESULT, TASKS, counters, log_until, read_csv


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


def test_nan_is_the_only_value_left_out(tmp_path: Path) -> None:
    with RunLogger(tmp_path, TASKS) as logger:
        logger.log_training(counters(1), {"a": math.inf, "b": 0.0, "c": -1.0})
    row = read_csv(tmp_path / "training.csv")[0]
    assert [row["a"], row["b"], row["c"]] == ["inf", "0", "-1"]


def test_an_evaluation_has_a_row_per_task_and_their_mean(tmp_path: Path) -> None:
    with RunLogger(tmp_path, TASKS) as logger:
        logger.log_evaluation(counters(7), RESULT)
    assert (tmp_path / "evaluation.csv").read_text().splitlines() == [
        "vector_steps,env_steps,updates,seconds,task,success_rate,mean_return,episodes",
        "7,70,3,1,reach-v3,0.5,100,50",
        "7,70,3,1,push-v3,1,301,50",
        "7,70,3,1,mean,0.75,200.5,50",
    ]


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


def with_marked_lines(content: bytes) -> bytes:
    return codecs.BOM_UTF8 + content.replace(b"\n", b"\r\n")


@pytest.mark.parametrize("extra", [0, 2])
@pytest.mark.parametrize(
    "edit", [lambda content: content.replace(b"\n", b"\r\n"), with_marked_lines]
)
def test_an_editor_that_ends_lines_otherwise_costs_no_row(
    tmp_path: Path, edit: Callable[[bytes], bytes], extra: int
) -> None:
    for name in ("straight", "edited"):
        with RunLogger(tmp_path / name, TASKS) as logger:
            log_until(logger, range(1, 6))
            position = logger.position(5)
            log_until(logger, range(6, 6 + extra))
    for path in (tmp_path / "edited").glob("*.csv"):
        path.write_bytes(edit(path.read_bytes()))
        assert len(read_rows(path)) >= 5
    for name in ("straight", "edited"):
        with RunLogger(tmp_path / name, TASKS, position) as logger:
            log_until(logger, range(6, 9))
    for name in ("training.csv", "evaluation.csv"):
        straight, edited = (tmp_path / run / name for run in ("straight", "edited"))
        assert edited.read_bytes() == straight.read_bytes()


@pytest.mark.parametrize(("old", "new"), [(b",1,", b",1.000,"), (b"0.", b".")])
def test_numbers_written_otherwise_cost_no_row(tmp_path: Path, old: bytes, new: bytes) -> None:
    with RunLogger(tmp_path, TASKS) as logger:
        log_until(logger, range(1, 6))
        position = logger.position(5)
        log_until(logger, range(6, 8))
    path = tmp_path / "training.csv"
    assert old in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(old, new))
    with (
        pytest.warns(UserWarning, match=r"training.csv .* since its checkpoint was saved"),
        RunLogger(tmp_path, TASKS, position) as logger,
    ):
        log_until(logger, range(6, 9))
    assert [row["vector_steps"] for row in read_csv(path)] == [*map(str, range(1, 9))]
