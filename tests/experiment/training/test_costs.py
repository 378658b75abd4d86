"""What a run would take, from steps that were taken just now."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mtrl_ntk.experiment.config import from_dict
from mtrl_ntk.experiment.options.sections import EvaluationConfig
from mtrl_ntk.experiment.training import costs as rehearsal, dry_run
from mtrl_ntk.experiment.training.costs import rehearse, seconds_each, steps_seconds
from tests.experiment.costs import COSTS, SETTINGS


def test_costs_are_those_of_the_whole_run() -> None:
    config = from_dict(SETTINGS)
    costs = rehearse(config)
    steps = steps_seconds(config, 0, costs.random_step_s, costs.step_s)
    assert costs.total_s == pytest.approx(costs.start_s + steps + costs.evaluations_s)
    replay = 4 * 500 * (2 * 39 + 4 + 2)
    assert costs.replay == replay
    assert costs.disk > replay + costs.learner
    assert costs.num_workers == costs.workers == 0


@pytest.mark.parametrize(("done", "expected"), [(0, 100 * 2 + 900 * 3), (40, 2820), (750, 750)])
def test_a_run_that_goes_on_takes_what_is_left(done: int, expected: float) -> None:
    assert steps_seconds(from_dict(SETTINGS), done, 2.0, 3.0) == expected


def test_the_start_counts_and_the_threads_are_those_of_the_run() -> None:
    before = torch.get_num_threads()
    costs = rehearse(from_dict(SETTINGS | {"threads": 2}))
    assert (costs.threads, torch.get_num_threads()) == (2, before)
    assert costs.start_s > 0.1  # this process has imported PyTorch
    texts = " ".join(dry_run.estimate(replace(COSTS, threads=7), Path()))
    assert "with 7 threads" in texts
    assert "time: about 1 h 00 min" in texts
    assert "20 s of it for the start" in texts


def test_the_time_of_a_run_that_may_end_sooner_is_one_at_most() -> None:
    _, line, *_ = dry_run.estimate(COSTS, Path(), EvaluationConfig(stop_at=0.9).at_most)
    assert "time: at most about 1 h 00 min" in line


def test_what_is_on_a_gpu_takes_no_other_memory() -> None:
    assert COSTS.memory == 15 * 10**8
    assert replace(COSTS, on_gpu=True).memory == 4 * 10**8
    (line,) = [each for each in dry_run.estimate(COSTS, Path()) if "memory" in each]
    assert "GPU" not in line


def test_a_step_is_repeated_until_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    times = iter([0.0, 0.0, 1.5, 3.0])  # the start, then before each call
    monkeypatch.setattr("mtrl_ntk.experiment.training.costs.time.perf_counter", lambda: next(times))
    assert seconds_each(lambda: calls.append(1), at_least=2.0) == 1.5
    assert len(calls) == rehearsal._FIRST_STEPS + 2


def test_returns_of_many_steps_have_something_to_learn_from() -> None:
    config = from_dict(SETTINGS | {"n_steps": 12})
    assert rehearse(config).step_s > 0
