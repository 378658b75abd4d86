"""What options of environments mean on a machine."""

from __future__ import annotations

import multiprocessing
from dataclasses import replace
from typing import Any

import pytest

from mtrl_ntk.errors import ConfigError
from mtrl_ntk.rl.envs import (
    BENCHMARKS,
    EnvConfig,
    RestartRules,
    config as env_config,
    make_envs,
    resolved_workers,
    vector_env as envs_module,
)
from mtrl_ntk.rl.suites.metaworld.suite import METAWORLD


def test_make_envs_follows_the_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[dict[str, Any]] = []
    monkeypatch.setattr(
        envs_module, "MultiTaskVectorEnv", lambda **arguments: made.append(arguments)
    )
    monkeypatch.setattr(env_config, "usable_cores", lambda: 9)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    config = EnvConfig(
        envs_per_task=3,
        horizon=7,
        worker_timeout=45.0,
        worker_restarts=6,
        restart_window=70,
        reward_version="v1",
        reward_normalization="running_variance",
        goal_mode="fixed",
    )
    make_envs(config, seed=9)
    make_envs(replace(config, tasks=("push-v3",), workers=2), seed=9, goal_mode="in_order")
    make_envs(config, seed=9, envs_per_task=5, terminate_on_success=True)
    assert made[0] == {
        "rules": RestartRules(timeout=45.0, restarts=6, window=70),
        "suite": METAWORLD,
        "tasks": BENCHMARKS["MT10"],
        "seed": 9,
        "envs_per_task": 3,
        "horizon": 7,
        "reward_version": "v1",
        "reward_normalization": "running_variance",
        "goal_mode": "fixed",
        "workers": 2,
        "lean": True,
    }
    assert (made[1]["tasks"], made[1]["workers"]) == (("push-v3",), 2)
    assert made[1]["goal_mode"] == "in_order"
    assert (made[2]["workers"], made[2]["terminate_on_success"]) == (2, True)


@pytest.mark.parametrize(
    ("cores", "copies", "on_cpu", "beside_cuda"),
    [(1, 1, 0, 0), (2, 1, 1, 1), (4, 1, 1, 3), (16, 1, 4, 10), (16, 8, 4, 15), (64, 1, 10, 10)],
)
@pytest.mark.parametrize("has_cuda", [False, True])
def test_workers_leave_cores_to_the_learner(
    cores: int,
    copies: int,
    on_cpu: int,
    beside_cuda: int,
    monkeypatch: pytest.MonkeyPatch,
    *,
    has_cuda: bool,
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(cores)))
    monkeypatch.setattr("torch.cuda.is_available", lambda: has_cuda)
    workers = beside_cuda if has_cuda else on_cpu
    assert resolved_workers(EnvConfig(envs_per_task=copies)) == workers
    assert resolved_workers(EnvConfig(envs_per_task=copies, workers=3)) == 3


def test_a_process_of_a_pool_has_no_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multiprocessing.current_process(), "_config", {"daemon": True})
    assert resolved_workers(EnvConfig()) == resolved_workers(EnvConfig(workers=0)) == 0
    with pytest.raises(ConfigError, match="workers is 2, but this process belongs to a pool"):
        make_envs(EnvConfig(workers=2), seed=1)
