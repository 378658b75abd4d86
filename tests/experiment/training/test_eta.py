"""How long a run will take."""

from __future__ import annotations

import pytest

from mtrl_ntk.experiment.config import from_dict
from mtrl_ntk.experiment.training.eta import DurationEstimate, evaluation_seconds
from mtrl_ntk.experiment.types import Counters


def test_evaluations_that_are_over_cost_nothing() -> None:
    config = from_dict(
        {"tasks": ["reach-v3"], "horizon": 20, "evaluation_episodes": 1}
        | {"total_steps": 1_000, "warmstart_steps": 100, "evaluate_every": 250}
    )
    assert evaluation_seconds(config, 2, 0.5) == 4 * 2 * 20 * 0.5
    assert evaluation_seconds(config, 2, 0.5, done=750) == 2 * 20 * 0.5


def test_neither_the_start_nor_what_is_over_counts_again() -> None:
    config = from_dict(
        {"tasks": ["reach-v3", "push-v3"], "horizon": 20, "evaluation_episodes": 2}
        | {"total_steps": 400, "warmstart_steps": 100, "evaluate_every": 120}
    )
    eta, paused, said = DurationEstimate(config, num_tasks=2), 0.0, []
    for step in range(1, 401):
        # A start of 60 s, 0.1 s a step, later 0.5 s; an evaluation of 7 s is over, 3 are to come.
        stepping = 0.1 * min(step, 100) + 0.5 * max(step - 100, 0)
        counters = Counters(step, 2 * step, max(step - 100, 0), 60 + stepping + paused)
        said.append(eta.after(counters, paused))
        if step % 120 == 0:
            paused += 7.0
    (seconds,) = [each for each in said if each is not None]
    to_come = 3 * 2 * 2 * 20 * (0.1 / 2)
    assert seconds == pytest.approx(60 + 100 * 0.1 + 300 * 0.5 + 7 + to_come)
