"""What a run logs reaches every kind of log, and is continued where a checkpoint was saved."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_file_loader import (  # type: ignore[import-untyped]
    EventFileLoader,
)

from mtrl_ntk.errors import UserError
from mtrl_ntk.experiment.logs.logger import RunLogger, final_metrics
from mtrl_ntk.experiment.types import LogPosition
from tests.experiment.logs.logged import RESULT, TASKS, counters, log_until, read_csv, read_events


def test_the_three_published_numbers_differ() -> None:
    metrics = final_metrics([0.0, 0.9, 0.1, 0.2, 0.3, 0.4, 0.5])
    assert metrics == {
        "final/success_rate": 0.5,
        "final/mean_of_last_5": pytest.approx(0.3),
        "final/max_success_rate": 0.9,
    }


def test_an_evaluation_of_other_tasks_is_an_error(tmp_path: Path) -> None:
    with RunLogger(tmp_path, TASKS[::-1]) as logger, pytest.raises(ValueError, match="push-v3"):
        logger.log_evaluation(counters(7), RESULT)


def test_rows_are_on_disk_before_the_run_ends(tmp_path: Path) -> None:
    with RunLogger(tmp_path, TASKS) as logger:
        logger.log_training(counters(7), {"a": 1.0})
        logger.log_evaluation(counters(7), RESULT)
        assert len(read_csv(tmp_path / "training.csv")) == 1
        assert len(read_csv(tmp_path / "evaluation.csv")) == 3
        assert "task_return/mean" in read_events(tmp_path).Tags()["scalars"]


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


def test_a_folder_that_cannot_be_made_is_the_users_mistake(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot write the run's folder .*; choose --run-dir"):
        RunLogger(tmp_path / "file" / "run", TASKS)


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
    shown = [read_events(tmp_path / run).Scalars("training/a") for run in ("straight", "parts")]
    assert [[event.step for event in events] for events in shown] == [[*range(1, 9)]] * 2


def test_what_a_later_attempt_has_logged_goes_too(tmp_path: Path) -> None:
    with RunLogger(tmp_path, TASKS) as logger:
        log_until(logger, range(1, 4))
        position = logger.position(3)
    for _ in range(2):
        with RunLogger(tmp_path, TASKS, position) as logger:
            log_until(logger, range(4, 7))
    steps = [step for tag, step in every_event(tmp_path) if tag == "training/a"]
    assert steps == [1, 2, 3, 4, 5, 6]


def test_a_run_without_a_checkpoint_starts_its_logs_again(tmp_path: Path) -> None:
    with RunLogger(tmp_path, TASKS) as logger:
        log_until(logger, range(1, 4))
    with RunLogger(tmp_path, TASKS, LogPosition()) as logger:
        logger.log_training(counters(1), {"other": 1.0})
    assert (tmp_path / "training.csv").read_text().splitlines() == [
        "vector_steps,env_steps,updates,seconds,other",
        "1,10,0,0.142857143,1",
    ]
    tags = {tag for tag, _ in every_event(tmp_path)}
    assert tags == {"custom_scalars__config__", "training/other"}
