"""Worker processes: the same bytes as without them, and a clean end however it comes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mtrl_ntk.rl.envs import (
    BENCHMARKS,
    MultiTaskVectorEnv,
    RestartRules,
    WorkerError,
    workers as env_workers,
)
from mtrl_ntk.rl.envs.bundle import BundleSpec
from mtrl_ntk.rl.envs.workers import WorkerPool, assign_rows
from mtrl_ntk.rl.suites.suite import EpisodeRules

TASKS = ("reach-v3", "drawer-close-v3")
HORIZON = 3
ROOT = Path(env_workers.__file__).parents[3]


def make(workers: int, copies: int = 2, rules: RestartRules | None = None) -> MultiTaskVectorEnv:
    return MultiTaskVectorEnv(
        TASKS,
        seed=0,
        envs_per_task=copies,
        horizon=HORIZON,
        reward_normalization="running_variance",  # it may not depend on the workers either
        workers=workers,
        rules=rules,
    )


@pytest.fixture(scope="module")
def one_worker() -> Iterator[MultiTaskVectorEnv]:
    envs = make(1)
    yield envs
    envs.close()


@pytest.fixture(scope="module")
def two_workers() -> Iterator[MultiTaskVectorEnv]:
    envs = make(2)
    yield envs
    envs.close()


def process_ids(envs: MultiTaskVectorEnv) -> list[int]:
    assert isinstance(envs._stepper, WorkerPool)
    return [worker.process.pid or 0 for worker in envs._stepper._workers]


def flat(infos: dict[str, Any]) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {}
    for key, value in infos.items():
        if isinstance(value, dict):
            arrays |= {f"{key}/{name}": array for name, array in flat(value).items()}
        else:
            arrays[key] = value
    return arrays


def everything(envs: MultiTaskVectorEnv) -> list[dict[str, NDArray[Any]]]:
    """All that seeded episodes, unseeded ones and a broken action return."""
    actions = np.random.default_rng(0).uniform(-1.5, 1.5, (HORIZON + 2, envs.num_envs, 4))
    actions[3, 1, 0] = np.nan
    results: list[dict[str, NDArray[Any]]] = []
    for seed in (7, None):
        results.append({"reset": envs.reset(seed=seed)[0]})
        for action in actions:
            *arrays, infos = envs.step(action)
            results.append({str(index): array for index, array in enumerate(arrays)} | flat(infos))
    return results


def test_same_bytes_with_any_number_of_workers(
    one_worker: MultiTaskVectorEnv, two_workers: MultiTaskVectorEnv
) -> None:
    in_process = make(0)
    expected = everything(in_process)
    in_process.close()
    assert any("final_info/episode/r" in result for result in expected)
    assert not all(result.get("valid", np.ones(1)).all() for result in expected)
    for envs in (one_worker, two_workers):
        for result, reference in zip(everything(envs), expected, strict=True):
            assert list(result) == list(reference)
            for name, array in result.items():
                assert array.dtype == reference[name].dtype
                np.testing.assert_array_equal(array, reference[name])


def test_learner_works_while_workers_step(one_worker: MultiTaskVectorEnv) -> None:
    one_worker.reset(seed=0)
    (pid,), restarts = process_ids(one_worker), one_worker.restarts
    os.kill(pid, signal.SIGSTOP)
    one_worker.step_async(np.zeros((4, 4)))  # comes back though nothing can have been stepped
    os.kill(pid, signal.SIGCONT)
    one_worker.step_wait()
    assert (process_ids(one_worker), one_worker.restarts) == ([pid], restarts)


@pytest.mark.slow
def test_script_without_a_main_guard_runs_once_and_ends_without_close(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "print('main')\n"
        "from mtrl_ntk.rl.envs import MultiTaskVectorEnv\n"
        "envs = MultiTaskVectorEnv(['reach-v3'], seed=0, workers=1)\n"
        "print(envs.reset()[0].shape)\n"
    )
    result = subprocess.run(
        [sys.executable, script],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "main\n(1, 39)\n", "")


def test_interrupts_leave_workers_alone(two_workers: MultiTaskVectorEnv) -> None:
    two_workers.reset(seed=0)
    pids = process_ids(two_workers)
    for pid in pids:
        for interrupt in (signal.SIGINT, signal.SIGTERM):
            os.kill(pid, interrupt)
    for _ in range(3):
        two_workers.step(np.zeros((4, 4)))
    assert all(is_running(pid) for pid in pids)
    assert process_ids(two_workers) == pids


def test_an_interrupted_wait_can_be_taken_up_again(
    two_workers: MultiTaskVectorEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> list[Any]:
        raise KeyboardInterrupt

    two_workers.reset(seed=0)
    expected = [two_workers.step(np.full((4, 4), value))[0] for value in (0.1, 0.9)]
    two_workers.reset(seed=0)
    two_workers.step_async(np.full((4, 4), 0.1))
    with monkeypatch.context() as patch:
        patch.setattr(env_workers, "wait", interrupted)
        with pytest.raises(KeyboardInterrupt):
            two_workers.step_wait()
    np.testing.assert_array_equal(two_workers.step_wait()[0], expected[0])
    np.testing.assert_array_equal(two_workers.step(np.full((4, 4), 0.9))[0], expected[1])


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


def test_a_worker_lost_once_too_often_is_an_error_that_names_it() -> None:
    envs = make(2, copies=1, rules=RestartRules(restarts=0))
    envs.reset()
    pids = process_ids(envs)
    os.kill(pids[1], signal.SIGKILL)
    with pytest.raises(WorkerError, match=r"worker 1 \(.*-v3\) died, killed by SIGKILL, after 0"):
        envs.step(np.zeros((2, 4)))
    with pytest.raises(WorkerError, match="worker 1"):
        envs.step_wait()
    envs.close()
    envs.close()
    assert not any(is_running(pid) for pid in pids)


def test_a_late_worker_is_ended_by_force(monkeypatch: pytest.MonkeyPatch) -> None:
    rules = RestartRules(restarts=0)
    envs = make(1, copies=1, rules=rules)
    envs.reset()
    (pid,) = process_ids(envs)
    monkeypatch.setattr(envs._stepper, "_rules", replace(rules, timeout=0.3))
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(WorkerError, match=r"0 \(reach-v3, drawer-close-v3\) gave no sign of life"):
        envs.step(np.zeros((2, 4)))
    assert not is_running(pid)
    envs.close()


def test_error_in_a_worker_reaches_the_parent() -> None:
    # The name passes no check here, so that the worker is the one to stumble.
    spec = BundleSpec(("no-such-task",), 1, EpisodeRules(), seed=0)
    with pytest.raises(WorkerError, match=r"worker 0 \(no-such-task\) failed: KeyError"):
        WorkerPool(spec, workers=1)


def test_close_in_the_middle_of_a_step_leaves_nothing() -> None:
    before = set(os.listdir("/dev/shm"))
    envs = make(1, copies=1)
    envs.reset()
    (pid,) = process_ids(envs)
    envs.step_async(np.zeros((2, 4)))
    envs.close()
    assert not is_running(pid)
    assert not {name for name in os.listdir("/dev/shm") if "pym" in name} - before


@pytest.mark.slow
def test_a_worker_that_hangs_does_not_hold_up_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(env_workers, "_CLOSE_TIMEOUT_S", 0.2)
    envs = make(1, copies=1)
    envs.reset()
    (pid,) = process_ids(envs)
    os.kill(pid, signal.SIGSTOP)
    envs.step_async(np.zeros((2, 4)))
    envs.close()
    assert not is_running(pid)


@pytest.mark.slow
def test_workers_end_when_the_parent_is_killed() -> None:
    code = textwrap.dedent(
        """
        import os, signal, time
        from mtrl_ntk.rl.envs import MultiTaskVectorEnv
        envs = MultiTaskVectorEnv(["reach-v3"], seed=0, envs_per_task=2, workers=2)
        pids = [worker.process.pid for worker in envs._stepper._workers]
        os.kill(pids[1], signal.SIGSTOP)
        print(*pids, flush=True)
        time.sleep(60)
        """
    )
    before = set(os.listdir("/dev/shm"))
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) == 2
        assert all(is_running(pid) for pid in pids)
        parent.kill()
    assert wait_until(lambda: not any(is_running(pid) for pid in pids), 300)
    assert not {name for name in os.listdir("/dev/shm") if "pym" in name} - before


@pytest.mark.parametrize("workers", [1, 2, 3, 7, 10, 64])
def test_rows_are_dealt_out_by_cost(workers: int) -> None:
    spec = BundleSpec(BENCHMARKS["MT10"], 2, EpisodeRules(), seed=0)
    assigned = assign_rows(spec, workers)
    assert assigned == assign_rows(spec, workers)
    assert sorted(row for rows in assigned for row in rows) == list(range(20))
    assert len(assigned) == min(workers, 20)
    assert all(rows == sorted(rows) and rows for rows in assigned)
    costs = [spec.suite.step_cost(name) for name in spec.tasks for _ in range(2)]
    loads = [sum(costs[row] for row in rows) for rows in assigned]
    # Greedy assignment is within 4/3 of the best, which is at least this.
    best = max(sum(costs) / len(assigned), max(costs))
    assert max(loads) <= 4 / 3 * best + 1e-9
