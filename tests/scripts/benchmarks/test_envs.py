"""The benchmark of the environments: what it writes, what it compares, and its exit codes."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mtrl_ntk.rl.envs import BENCHMARKS
from mtrl_ntk.rl.suites.metaworld.lean_env import LeanSawyerEnv
from scripts.benchmarks import envs as bench_envs
from scripts.benchmarks.envs import ASYNC, LEAN, STOCK, SYNC, BenchOptions, Contest, Schedule, main

TASK = "drawer-close-v3"
TINY = ["--tasks", TASK, "--steps", "4", "--rounds", "1"]


@pytest.mark.slow
def test_writes_one_row_per_task_and_number_of_workers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bench.json"
    assert main([*TINY, "--workers", "0", "1", "--json", str(path)]) == 0
    rows = json.loads(path.read_text())
    assert [
        {key: row[key] for key in row if key in ("what", "task", "workers")} for row in rows
    ] == [
        {"what": "step", "task": TASK},
        {"what": "step", "task": "mean"},
        {"what": "reset", "task": TASK},
        {"what": "reset", "task": "mean"},
        {"what": "vector", "workers": 0},
        {"what": "vector", "workers": 1},
    ]
    assert all(row["ratio"] > 0 for row in rows)
    assert all(set(row) - {"ratio"} == {"what", "task", "microseconds"} for row in rows[:4])
    assert all(
        set(row) - {"ratio"} == {"what", "envs", "workers", "steps_per_second"} for row in rows[4:]
    )
    assert [row["envs"] for row in rows[4:]] == [1, 1]
    output = capsys.readouterr().out
    assert TASK in output
    assert "steps per second" in output


def test_by_default_all_tasks_of_mt10_and_two_numbers_of_workers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: dict[str, Any] = {}

    class NoContest(SimpleNamespace):
        def __init__(self, task: str) -> None:
            super().__init__(task=task, goals=[None])

    def measure_tasks(contests: list[NoContest], steps: int, schedule: Schedule) -> list[Any]:
        asked.update(tasks=[contest.task for contest in contests], steps=steps, schedule=schedule)
        return [{"a": {name: {"step": 1.0, "reset": 1.0} for name in (LEAN, STOCK)}}]

    def bench_vector_envs(goals: dict[str, Any], workers: tuple[int, ...], _: Any) -> list[Any]:  # noqa: ANN401
        asked.update(vector_tasks=list(goals), workers=workers)
        return []

    monkeypatch.setattr(bench_envs, "Contest", NoContest)
    monkeypatch.setattr(bench_envs, "measure_tasks", measure_tasks)
    monkeypatch.setattr(bench_envs, "bench_vector_envs", bench_vector_envs)
    assert main([]) == 0
    assert asked["tasks"] == asked["vector_tasks"] == list(BENCHMARKS["MT10"])
    assert asked["workers"] == (0, 2)
    assert asked["schedule"] == Schedule(BenchOptions().rounds, math.inf)
    assert main(["--quick"]) == 0
    assert asked["schedule"].deadline < math.inf


def test_a_ratio_compares_within_rounds_and_the_mean_is_that_of_the_times() -> None:
    def times(lean: float, stock: float) -> dict[str, dict[str, float]]:
        return {LEAN: {"step": lean, "reset": 1.0}, STOCK: {"step": stock, "reset": 4.0}}

    rounds = [
        {"slow": times(2.0 * speed, 8.0 * speed), "quick": times(speed, 2.0 * speed)}
        for speed in (1e-6, 5e-6, 3e-6)
    ]
    rows = bench_envs.summarize_tasks(rounds)
    found = {(row["what"], row["task"]): (row["ratio"], row["microseconds"]) for row in rows}
    assert found["step", "slow"] == pytest.approx((0.25, 6.0))
    assert found["step", "quick"] == pytest.approx((0.5, 3.0))
    assert found["step", "mean"] == pytest.approx((0.3, 4.5))
    assert found["reset", "mean"] == pytest.approx((0.25, 1e6))


def test_the_vector_environment_is_compared_with_the_better_one_of_the_round() -> None:
    rounds = [
        {SYNC: 100.0, ASYNC: 50.0, "0": 200.0, "2": 400.0},
        {SYNC: 10.0, ASYNC: 50.0, "0": 150.0, "2": 50.0},
        {SYNC: 30.0, ASYNC: 30.0, "0": 75.0, "2": 60.0},
    ]
    rows = bench_envs.summarize_vector_envs(rounds, 10, (0, 2))
    assert [(row["workers"], row["ratio"], row["steps_per_second"]) for row in rows] == [
        (0, 2.5, 150.0),
        (2, 2.0, 60.0),
    ]
    assert all((row["what"], row["envs"]) == ("vector", 10) for row in rows)


def test_both_environments_play_the_same_episode() -> None:
    contest = Contest(TASK)
    assert [isinstance(contest.sims[name], LeanSawyerEnv) for name in (LEAN, STOCK)] == [
        True,
        False,
    ]
    times = contest.times(3, 10, (STOCK, LEAN))
    assert all(seconds > 0 for own in times.values() for seconds in own.values())
    lean, stock = (contest.sims[name] for name in (LEAN, STOCK))
    assert lean.curr_path_length == stock.curr_path_length == 10
    np.testing.assert_array_equal(lean.data.qpos, stock.data.qpos)
    # The task's own goal, and not the one of the episode before.
    before = lean.data.qpos.copy()
    contest.times(4, 10, (STOCK, LEAN))
    assert (lean.data.qpos != before).any()


def test_gymnasium_gets_stock_environments_that_end() -> None:
    env = bench_envs.stock_env(TASK, Contest(TASK).goals[0])
    assert not isinstance(env.unwrapped, LeanSawyerEnv)
    env.reset()
    ends = [env.step(np.zeros(4, np.float32))[2:] for _ in range(500)]
    assert [
        index for index, (terminated, truncated, _) in enumerate(ends) if terminated or truncated
    ] == [499]
    assert ends[-1][2]["episode"]["l"] == 500


def test_quick_stops_in_time_but_not_before_three_rounds() -> None:
    assert list(Schedule(6, 0.0).indices()) == [-1, 0, 1, 2]
    assert list(Schedule(2, 0.0).indices()) == [-1, 0, 1]
    assert list(Schedule(6, math.inf).indices()) == [-1, 0, 1, 2, 3, 4, 5]
