"""How long a run will take."""

from __future__ import annotations

from mtrl_ntk.experiment.config import from_dict
from mtrl_ntk.experiment.training.eta import evaluation_seconds


def test_evaluations_that_are_over_cost_nothing() -> None:
    config = from_dict(
        {"tasks": ["reach-v3"], "horizon": 20, "evaluation_episodes": 1}
        | {"total_steps": 1_000, "warmstart_steps": 100, "evaluate_every": 250}
    )
    assert evaluation_seconds(config, 2, 0.5) == 4 * 2 * 20 * 0.5
    assert evaluation_seconds(config, 2, 0.5, done=750) == 2 * 20 * 0.5
