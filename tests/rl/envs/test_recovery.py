"""Workers that are lost: replaced at once, and every result is what it would have been."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mtrl_ntk.rl.envs import (
    MultiTaskVectorEnv,
    SimulationError,
    TaskEnv,
    WorkerError,
    vector_env as envs_module,
)
from mtrl_ntk.rl.envs.task_env import Step
from mtrl_ntk.rl.envs.workers import RestartRules, WorkerPool, _Restarts
from tests.rl.envs.faults import Fault, faulty

TASKS = ("reach-v3", "drawer-close-v3")
HORIZON, STEPS = 5, 13
RULES = RestartRules(timeout=10.0, restarts=100)
Results = list[tuple[bytes, ...]]


def make(workers: int = 0, **arguments: Any) -> MultiTaskVectorEnv:  # noqa: ANN401 - many types
    return MultiTaskVectorEnv(
        TASKS,
        seed=3,
        horizon=HORIZON,
        reward_normalization="running_variance",
        workers=workers,
        **arguments,
    )


@pytest.fixture(scope="module")
def reports() -> list[str]:
    """What was said of restarts."""
    return []


@pytest.fixture(scope="module")
def envs(reports: list[str]) -> Iterator[MultiTaskVectorEnv]:
    """A worker for each task."""
    envs = make(2, rules=RULES, report=reports.append)
    yield envs
    envs.close()


@pytest.fixture(scope="module")
def undisturbed() -> Results:
    envs = make()
    envs.reset()
    results = run(envs)
    envs.close()
    return results


def actions_of_step(step: int) -> NDArray[np.float32]:
    return np.random.default_rng(step).uniform(-1.5, 1.5, (2, 4)).astype(np.float32)


def as_bytes(results: Any) -> tuple[bytes, ...]:  # noqa: ANN401 - what a step returns
    *arrays, infos = results
    final = infos.get("final_info", {"success": arrays[0], "episode": {"r": arrays[0]}})
    arrays += [infos["success"], infos["valid"], infos.get("final_obs", arrays[0])]
    return tuple(array.tobytes() for array in (*arrays, final["success"], final["episode"]["r"]))


def run(envs: MultiTaskVectorEnv, first: int = 0) -> Results:
    return [as_bytes(envs.step(actions_of_step(step))) for step in range(first, STEPS)]


def process_ids(envs: MultiTaskVectorEnv) -> list[int]:
    assert isinstance(envs._stepper, WorkerPool)
    return [worker.process.pid or 0 for worker in envs._stepper._workers]


def start_over(envs: MultiTaskVectorEnv, reports: list[str]) -> None:
    envs.reset(seed=3)
    reports.clear()


@pytest.mark.parametrize(
    "step", [7, *(pytest.param(step, marks=pytest.mark.slow) for step in (0, HORIZON - 1))]
)
def test_a_worker_killed_in_a_step_changes_nothing(
    envs: MultiTaskVectorEnv, reports: list[str], undisturbed: Results, step: int
) -> None:
    start_over(envs, reports)
    restarts, pids = envs.restarts, process_ids(envs)
    results = [as_bytes(envs.step(actions_of_step(index))) for index in range(step)]
    os.kill(pids[1], signal.SIGSTOP)  # so that it cannot be ready before it is killed
    envs.step_async(actions_of_step(step))
    os.kill(pids[1], signal.SIGKILL)
    results.append(as_bytes(envs.step_wait()))
    assert results + run(envs, step + 1) == undisturbed
    assert envs.restarts == restarts + 1
    expected = r"environment worker 1 \(reach-v3\) died, killed by SIGKILL; restarted .*nothing is"
    assert len(reports) == 1
    assert re.match(expected, reports[0])
    assert process_ids(envs)[0] == pids[0], "the other one has lived on"


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_workers_lost_between_steps_change_nothing(
    envs: MultiTaskVectorEnv, reports: list[str], undisturbed: Results, number: signal.Signals
) -> None:
    start_over(envs, reports)
    results = [as_bytes(envs.step(actions_of_step(index))) for index in range(8)]
    for pid in process_ids(envs):
        os.kill(pid, number)
    start = time.monotonic()
    assert results + run(envs, 8) == undisturbed
    assert len(reports) == 2
    if number == signal.SIGSTOP:
        assert all("gave no sign of life for 10 s" in report for report in reports)
        assert time.monotonic() - start >= RULES.timeout


@pytest.mark.slow
def test_workers_lost_before_other_commands_change_nothing(
    envs: MultiTaskVectorEnv, reports: list[str]
) -> None:
    reference = make()
    outcomes = []
    for each in (reference, envs):
        each.reset(seed=3)
        each.step(actions_of_step(0))
        state = each.state()
        outcome = []
        for command in (each.reset, lambda each=each: each.reset(seed=8), each.reset):
            if each is envs:
                os.kill(process_ids(envs)[0], signal.SIGKILL)
            outcome.append(command()[0].tobytes())
            outcome.append(as_bytes(each.step(actions_of_step(1))))
        if each is envs:
            os.kill(process_ids(envs)[1], signal.SIGKILL)
        outcome.append(each.restore(state).tobytes())
        outcomes.append([*outcome, *run(each, 1)])
    reference.close()
    assert outcomes[0] == outcomes[1]
    assert len(reports) >= 4


@pytest.mark.slow
@pytest.mark.parametrize("how", ["raises", "hangs"])
def test_a_simulation_that_fails_once_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: Results, how: str
) -> None:
    fault = Fault(how, "reach-v3", episode=2, step=2, log=tmp_path / "log", times=1)
    monkeypatch.setattr(envs_module, "EpisodeRules", faulty(fault))
    reports: list[str] = []
    envs = make(1, rules=RULES, report=reports.append)
    envs.reset()
    assert run(envs) == undisturbed
    envs.close()
    (report,) = reports
    reasons = {
        "raises": "failed: the simulation of reach-v3 (environment 0) failed at step 3 of an "
        "episode: ValueError: out of\nrange (faults.py:",
        "hangs": "gave no sign of life for 10 s",
    }
    assert f"worker 0 (reach-v3, drawer-close-v3) {reasons[how]}" in report


@pytest.mark.slow
def test_a_step_that_kills_the_simulation_costs_its_episode_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: Results
) -> None:
    fault = Fault("is killed", "reach-v3", episode=2, step=2, log=tmp_path / "log")
    reference = make()
    with monkeypatch.context() as patch:
        patch.setattr(envs_module, "EpisodeRules", faulty(fault))
        reports: list[str] = []
        envs = make(1, rules=RULES, report=reports.append)
    envs.reset()
    index = HORIZON + fault.step
    assert [as_bytes(envs.step(actions_of_step(step))) for step in range(index)] == undisturbed[
        :index
    ]
    before = envs.state()
    observations, rewards, terminated, truncated, infos = envs.step(actions_of_step(index))
    assert ["nothing is lost" in report for report in reports] == [True, False]
    assert reports[1].endswith("the episode of reach-v3 is given up")
    # Its own row: broken, and the last of the episode.
    assert infos["valid"].tolist() == [False, True]
    assert truncated.tolist() == [True, False]
    assert not terminated.any()
    assert rewards[0] == 0
    assert infos["final_info"]["episode"]["l"].tolist() == [3, 0]
    # All others: as if nothing had been.
    reference.restore(before)
    expected = reference.step(actions_of_step(index))
    assert observations[1].tobytes() == expected[0][1].tobytes()
    assert rewards[1] == expected[1][1]
    last = reference.restore(before)
    assert infos["final_obs"][0].tobytes() == last[0].tobytes()
    # The next episode is the one that would have come next, and a state knows all of it.
    state = envs.state()
    assert state["episodes"].tolist() == [3, 2]
    assert state["lengths"].tolist() == [0, 3]
    assert reference.restore(state).tobytes() == observations.tobytes()
    assert run(reference, index + 1) == run(envs, index + 1)
    assert len(reports) == 2
    for each in (envs, reference):
        each.close()


def test_restarts_are_counted_within_a_window() -> None:
    restarts = _Restarts(RestartRules(restarts=2, window=10))
    assert [restarts.add(step) for step in (1, 5, 10, 11, 11, 15, 16, 21)] == [
        True, True, False, True, False, True, False, True,
    ]  # fmt: skip
    assert restarts.total == 5
    assert not _Restarts(RestartRules(restarts=0)).add(1)


@pytest.mark.slow
def test_a_step_that_could_not_end_is_taken_elsewhere(undisturbed: Results) -> None:
    envs = make(2, rules=RestartRules(restarts=0))
    envs.reset()
    results = [as_bytes(envs.step(actions_of_step(index))) for index in range(8)]
    os.kill(process_ids(envs)[0], signal.SIGKILL)
    with pytest.raises(WorkerError):
        envs.step(actions_of_step(8))
    state = envs.state()
    envs.close()
    assert go_on(state, results) == undisturbed


def go_on(state: dict[str, Any], results: Results) -> Results:
    """All results, after other environments have taken the step again and gone on."""
    other = make()
    other.restore(state)
    assert other.pending_actions is not None
    results = [*results, as_bytes(other.step_wait())]
    results += run(other, len(results))
    other.close()
    return results


def test_without_workers_a_failing_simulation_is_named_and_its_step_can_be_taken_again(
    monkeypatch: pytest.MonkeyPatch, undisturbed: Results
) -> None:
    def fail(*_: object) -> Step:
        raise FloatingPointError("no contact")

    envs = make()
    envs.reset()
    results = [as_bytes(envs.step(actions_of_step(index))) for index in range(8)]
    with monkeypatch.context() as patch:
        patch.setattr(TaskEnv, "step", fail)
        message = (
            r"the simulation of reach-v3 \(environment 0\) failed at step 4 of an episode: "
            r"FloatingPointError: no contact \(test_recovery.py:\d+\)"
        )
        with pytest.raises(SimulationError, match=message):
            envs.step(actions_of_step(8))
    assert go_on(envs.state(), results) == undisturbed
    envs.close()


def test_a_state_of_before_steps_could_fail_goes_on(undisturbed: Results) -> None:
    envs = make()
    envs.reset()
    results = [as_bytes(envs.step(actions_of_step(index))) for index in range(8)]
    state = envs.state()
    assert state.pop("pending_actions") is None
    envs.reset(seed=9)
    envs.restore(state)
    assert results + run(envs, 8) == undisturbed
    envs.close()
