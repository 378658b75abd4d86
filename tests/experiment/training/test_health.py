"""What is not finite never gets into the replay or a checkpoint, and ends a run if it stays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mtrl_ntk.balancing.weighting import Statistics, Weighting
from mtrl_ntk.errors import RunFailed
from mtrl_ntk.experiment.checkpoints.archive import load_newest
from mtrl_ntk.experiment.checkpoints.checkpoint import Checkpoint, load_checkpoint
from mtrl_ntk.experiment.config import RunConfig
from mtrl_ntk.experiment.training import (
    assembly,
    evaluations as training_evaluation,
    run as training,
)
from mtrl_ntk.experiment.training.health import PATIENCE, Health
from mtrl_ntk.experiment.training.loop import TrainingLoop
from mtrl_ntk.experiment.training.run import train
from mtrl_ntk.experiment.training.trainer import Trainer
from mtrl_ntk.experiment.types import EvaluationResult
from scripts.soak.comparison import replay_of
from tests.experiment.outcomes import rows
from tests.experiment.training.test_run import TASKS, StubEnvs, tiny

FINITE = (np.zeros((2, 3, 5), np.float32), np.zeros((2, 3), np.float32))
ALL = np.ones((2, 3), np.bool_)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("part", [0, 1])
def test_a_transition_is_kept_if_all_of_it_is_finite(value: float, part: int) -> None:
    health = Health(TASKS)
    parts = [each.copy() for each in FINITE]
    parts[part][1, 2] = value
    assert health.keepable(ALL, *parts).tolist() == [[True] * 3, [True, True, False]]
    assert health.keepable(ALL & (np.arange(3) > 0), *FINITE).tolist() == [[False, True, True]] * 2
    assert health.take_lost().tolist() == [1, 2]
    assert health.take_lost().tolist() == [0, 0]


def test_large_numbers_are_kept() -> None:
    large = np.full((2, 3, 5), np.finfo(np.float32).max)
    assert Health(TASKS).keepable(ALL, large).all()


@pytest.fixture(autouse=True)
def _only_training(monkeypatch: pytest.MonkeyPatch) -> None:
    result = EvaluationResult(TASKS, np.zeros(2), np.zeros(2), episodes=1)
    monkeypatch.setattr(training, "plot_run", lambda _: [])
    monkeypatch.setattr(assembly, "make_evaluation_envs", lambda *_, **__: StubEnvs())
    monkeypatch.setattr(training_evaluation, "evaluate", lambda *_, **__: result)


def config_for(run_dir: Path) -> RunConfig:
    config = tiny(run_dir)
    return replace(
        config,
        loop=replace(config.loop, log_every=5, checkpoint_every=5),
        evaluation=replace(config.evaluation, evaluate_every=100),
    )


def break_after(
    patch: pytest.MonkeyPatch, step: int, damage: Callable[[TrainingLoop], object]
) -> None:
    """Does damage at the end of a step."""
    log_if_due = TrainingLoop._log_if_due

    def log_and_break(loop: TrainingLoop) -> None:
        log_if_due(loop)
        if loop.statistics.clock.step == step:
            damage(loop)

    patch.setattr(TrainingLoop, "_log_if_due", log_and_break)


def diagnosis_of(run_dir: Path) -> Checkpoint:
    return load_checkpoint(run_dir / "diagnosis")


def test_a_broken_observation_is_counted_and_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damage(loop: TrainingLoop) -> None:
        assert isinstance(loop.trainer, Trainer)
        collector = loop.trainer.collector
        collector.observations = collector.observations.copy()
        collector.observations[1, 3] = np.nan

    break_after(monkeypatch, 22, damage)
    train(config_for(tmp_path / "run"))
    table = rows(tmp_path / "run" / "training.csv")
    column = [float(row[f"skipped/transitions/{TASKS[1]}"]) for row in table]
    assert column == [0, 0, 1, 0, 0, 0, 0]
    assert not any(float(row[f"skipped/transitions/{TASKS[0]}"]) for row in table)
    replay = replay_of(load_newest(tmp_path / "run" / "checkpoint"))
    assert replay.sizes.tolist() == [45, 44]
    assert replay._rows.isfinite().all()


def test_parameters_that_are_not_finite_end_the_run_and_reach_no_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damage(loop: TrainingLoop) -> None:
        next(loop.state.agent.actor.parameters()).data.fill_(torch.nan)

    break_after(monkeypatch, 22, damage)
    with pytest.raises(RunFailed, match=r"after 25 steps, as actor\S* is not finite") as end:
        train(config_for(tmp_path / "run"))
    assert str(tmp_path / "run" / "diagnosis") in str(end.value)
    assert "the newest checkpoint is of step 20" in str(end.value)
    newest = load_newest(tmp_path / "run" / "checkpoint", replay=True)
    assert newest.folder.name == "step-000000020"
    assert all(tensor.isfinite().all() for tensor in newest.checkpoint.tensors.values())


def test_a_stop_saves_no_broken_checkpoint_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damage(loop: TrainingLoop) -> None:
        loop.state.agent.log_alpha.data[1] = torch.inf
        loop._save()

    break_after(monkeypatch, 22, damage)
    with pytest.raises(RunFailed, match=rf"after 22 steps, as log_temperature \({TASKS[1]}\) is"):
        train(config_for(tmp_path / "run"))
    assert load_newest(tmp_path / "run" / "checkpoint").folder.name == "step-000000020"


def test_a_task_that_is_always_skipped_ends_the_run_with_a_diagnosis(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damage(loop: TrainingLoop) -> None:
        weighting: Weighting = loop.state.agent.critic_balancer.weighting
        weigh = weighting.weigh

        def weigh_badly(statistics: Statistics) -> torch.Tensor:
            weights = weigh(statistics)
            weights[1] = torch.nan
            return weights

        monkeypatch.setattr(weighting, "weigh", weigh_badly)

    break_after(monkeypatch, 15, damage)
    config = config_for(tmp_path / "run")
    with pytest.raises(RunFailed, match=rf"30 steps, as critic has skipped task {TASKS[1]} in"):
        train(config)
    assert PATIENCE == 3
    diagnosis = diagnosis_of(tmp_path / "run")
    assert diagnosis.metadata["counters"]["vector_steps"] == 30
    assert diagnosis.metadata["config"]["seed"] == config.seed
    (finding,) = diagnosis.metadata["findings"]
    assert finding.startswith(f"critic has skipped task {TASKS[1]} in every update of 3 rows")
    assert {"batch.rewards", "batch.observations", "agent_stream"} <= diagnosis.training.keys()
    assert diagnosis.training["batch.rewards"].shape == (len(TASKS), config.sac.batch_size)
    assert any(name.startswith("optimizers.critic") for name in diagnosis.training)
    newest = load_newest(tmp_path / "run" / "checkpoint").checkpoint
    assert diagnosis.tensors.keys() == newest.tensors.keys()


def test_a_task_that_recovers_is_let_go_on() -> None:
    health = Health(TASKS)
    always, often = np.array([0.0, 1.0]), np.array([0.0, 0.9])
    for share in (always, always, often, always, always):
        health.take_row({"skipped/critic": share, "losses/critic": share})
    copy = Health(TASKS)
    copy.restore(health.state())
    assert copy.state() == health.state()
    assert health._skipped_rows == {"skipped/critic": [0, 2]}
