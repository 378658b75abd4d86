"""Runs whose environments fail: nothing is lost, or the run is saved as it is."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mtrl_ntk.errors import RunFailed
from mtrl_ntk.experiment.checkpoints.archive import load_newest
from mtrl_ntk.experiment.config import NEWEST, RunConfig
from mtrl_ntk.experiment.training.evaluations import TrainingEvaluations
from mtrl_ntk.experiment.training.loop import TrainingLoop
from mtrl_ntk.experiment.training.run import train
from mtrl_ntk.experiment.training.trainer import Trainer
from mtrl_ntk.rl.envs import MultiTaskVectorEnv, TaskEnv
from mtrl_ntk.rl.envs.task_env import Step
from mtrl_ntk.rl.envs.workers import WorkerPool
from tests.experiment.outcomes import outcome
from tests.experiment.training.test_run import tiny

pytestmark = pytest.mark.usefixtures("no_plots")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("undisturbed") / "run"
    train(tiny(run_dir))
    return run_dir


def same_but_for_restarts(run_dir: Path, other: Path) -> bool:
    """Whether two runs left the same, but for the number of workers and of their restarts."""
    return _without_restarts(outcome(run_dir)) == _without_restarts(outcome(other))


def _without_restarts(found: dict[str, Any]) -> dict[str, Any]:
    found = {**found, "metadata state": {**found["metadata state"], "worker_restarts": None}}
    del found["metadata config"]
    found["training.csv"] = [
        {name: cell for name, cell in row.items() if name != "charts/worker_restarts"}
        for row in found["training.csv"]
    ]
    found["events"] = [event for event in found["events"] if event[1] != "training/worker_restarts"]
    return found


def kill_a_worker(envs: MultiTaskVectorEnv) -> None:
    assert isinstance(envs._stepper, WorkerPool)
    process = envs._stepper._workers[0].process
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join()


def before_step(
    patch: pytest.MonkeyPatch, steps: set[int], do: Callable[[MultiTaskVectorEnv], None]
) -> None:
    """Does something to the environments of training just before steps; to others before 29."""
    evaluate_and_save = TrainingLoop._evaluate_and_save

    def evaluate_save_and_do(loop: TrainingLoop) -> None:
        evaluate_and_save(loop)
        step = loop.statistics.clock.step + 1
        if step in steps:
            assert isinstance(loop.trainer, Trainer)
            assert isinstance(loop.evaluations, TrainingEvaluations)
            do(loop.evaluations._envs if step == 29 else loop.trainer.collector.envs)

    patch.setattr(TrainingLoop, "_evaluate_and_save", evaluate_save_and_do)


def resumed(config: RunConfig, **changes: Any) -> RunConfig:  # noqa: ANN401 - fields of many types
    return replace(config, resume=NEWEST, env=replace(config.env, **changes))


@pytest.mark.slow
def test_a_run_with_lost_workers_is_the_run_that_it_would_have_been(
    tmp_path: Path,
    undisturbed: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before_step(monkeypatch, {12, 29, 33}, kill_a_worker)
    train(tiny(tmp_path / "run", workers=2))
    assert same_but_for_restarts(tmp_path / "run", undisturbed)
    assert capsys.readouterr().out.count("died, killed by SIGKILL; restarted") == 3
    table = outcome(tmp_path / "run")["training.csv"]
    assert [row["charts/worker_restarts"] for row in table] == ["1", "1", "3"]
    state = load_newest(tmp_path / "run" / "checkpoint").checkpoint.metadata["state"]
    assert state["worker_restarts"] == 3


@pytest.mark.slow
def test_too_many_restarts_save_the_run_in_the_middle_of_its_step(
    tmp_path: Path, undisturbed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny(tmp_path / "run", workers=1)
    config = replace(config, env=replace(config.env, worker_restarts=1, restart_window=20))
    with monkeypatch.context() as patch:
        before_step(patch, {1, 24, 30}, kill_a_worker)
        message = r"after 1 restarts of workers within 20 steps; saved after 30 steps; to go on: t"
        with pytest.raises(RunFailed, match=message):
            train(config)
    train(resumed(config, workers=0))
    assert same_but_for_restarts(tmp_path / "run", undisturbed)
    state = load_newest(tmp_path / "run" / "checkpoint").checkpoint.metadata["state"]
    assert state["worker_restarts"] == 2


@pytest.mark.slow
@pytest.mark.parametrize("evaluated", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_simulation_that_fails_without_workers_saves_the_run_as_well(
    tmp_path: Path, undisturbed: Path, monkeypatch: pytest.MonkeyPatch, evaluated: bool
) -> None:
    step = TaskEnv.step

    def fail_at_times(env: TaskEnv, action: Any) -> Step:  # noqa: ANN401 - what is like an array
        if env.rules.terminate_on_success == evaluated and env._episodes > 0 and env._length == 7:
            raise FloatingPointError("no contact")
        return step(env, action)

    with monkeypatch.context() as patch:
        patch.setattr(TaskEnv, "step", fail_at_times)
        with pytest.raises(RunFailed, match=r"simulation of reach-v3 .* FloatingPointError: no"):
            train(tiny(tmp_path / "run"))
    newest = load_newest(tmp_path / "run" / "checkpoint").folder.name
    assert newest == ("step-000000030" if evaluated else "step-000000008")
    train(resumed(tiny(tmp_path / "run")))
    assert same_but_for_restarts(tmp_path / "run", undisturbed)
