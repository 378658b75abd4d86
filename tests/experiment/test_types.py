"""What rooms hand to one another comes back from JSON, and nothing else is taken for it."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest

from mtrl_ntk.experiment.types import Counters, EvaluationResult, LogPosition

COUNTERS = Counters(vector_steps=3, env_steps=30, updates=1, seconds=0.5)
POSITION = LogPosition(step=3, training=10, evaluation=0, events={"events.1": 7})


def test_all_come_back_from_json() -> None:
    result = EvaluationResult(("a", "b"), np.array([0.1, 1.0]), np.array([1 / 3, -2.0]), 50)
    read = EvaluationResult.from_json(json.loads(json.dumps(result.to_json())))
    assert (read.task_names, read.episodes) == (result.task_names, result.episodes)
    assert np.array_equal(read.success_rates, result.success_rates)
    assert np.array_equal(read.mean_returns, result.mean_returns)
    assert read.mean_success_rate == 0.55
    assert Counters.from_json(json.loads(json.dumps(asdict(COUNTERS)))) == COUNTERS
    assert LogPosition.from_json(json.loads(json.dumps(POSITION.to_json()))) == POSITION


def test_positions_of_earlier_checkpoints_are_read() -> None:
    values = POSITION.to_json()
    earlier = {"vector_steps": values.pop("step"), **values}
    assert LogPosition.from_json(earlier) == POSITION
    with pytest.raises(KeyError):
        LogPosition.from_json(values)


@pytest.mark.parametrize(
    "change",
    [
        {"vector_steps": -1},
        {"updates": 1.0},
        {"env_steps": True},
        {"env_steps": 1 << 62},
        {"seconds": math.nan},
        {"seconds": math.inf},
        {"more": 1},
    ],
)
def test_other_counters_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError)):
        Counters.from_json({**asdict(COUNTERS), **change})


@pytest.mark.parametrize(
    "change",
    [
        {"step": -1},
        {"training": -1},
        {"evaluation": "0"},
        {"events": {"events.1": 0.5}},
        {"more": 1},
    ],
)
def test_other_positions_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError)):
        LogPosition.from_json({**POSITION.to_json(), **change})
