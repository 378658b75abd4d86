"""The example of own tasks: what Gymnasium asks of it, and a run on it with all that runs have."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from mtrl_ntk.examples.pendulums import Pendulum, make_tasks
from mtrl_ntk.experiment.checkpoints.archive import load_newest
from mtrl_ntk.experiment.config import RunConfig
from mtrl_ntk.experiment.options.sections import EvaluationConfig, LoopConfig
from mtrl_ntk.experiment.reports.data import read_run
from mtrl_ntk.experiment.training import run as training
from mtrl_ntk.experiment.training.run import train
from mtrl_ntk.policy import load_policy
from mtrl_ntk.rl.envs import EnvConfig
from mtrl_ntk.rl.sac import SacConfig
from mtrl_ntk.rl.suites.registry import SUITES, add_tasks

SUITE = "pendulums:of_a_test"


def config(folder: Path, steps: int) -> RunConfig:
    return RunConfig(
        run_dir=folder,
        device="cpu",
        threads=1,
        env=EnvConfig(suite=SUITE, horizon=8, workers=0),
        sac=SacConfig(batch_size=4, width=8, depth=1),
        loop=LoopConfig(steps, warmstart_steps=8, replay_capacity=100, log_every=10),
        evaluation=EvaluationConfig(evaluate_every=15, evaluation_episodes=2),
    )


@pytest.mark.filterwarnings("ignore::UserWarning")  # about bounds of gymnasium's own
def test_gymnasium_finds_nothing_wrong() -> None:
    check_env(Pendulum(0.7, 1.0, render_mode="rgb_array"))


def test_a_pendulum_that_is_held_upright_has_succeeded() -> None:
    with closing(Pendulum(1.0, 1.0)) as env:
        env.reset(seed=0)
        env.state = np.array([0.0, 0.0])
        held = [env.step(np.zeros(1, np.float32))[4]["success"] for _ in range(12)]
        assert held == [False] * 9 + [True] * 3
        env.reset(seed=0)
        assert not env.step(np.zeros(1, np.float32))[4]["success"]


def test_a_resumed_run_is_the_one_that_was_not_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "plot_run", lambda _: [])
    add_tasks(make_tasks, SUITE)
    whole, part = tmp_path / "whole", tmp_path / "part"
    train(config(whole, 45))
    train(config(part, 30))
    train(replace(config(part, 45), resume=part))
    trained, resumed = (
        load_newest(folder / "checkpoint").checkpoint.tensors for folder in (whole, part)
    )
    assert all(trained[name].equal(resumed[name]) for name in trained)
    # Reports, and programs that use the policy, do without the tasks.
    monkeypatch.delitem(SUITES, SUITE)
    assert read_run(part).tasks == ("short", "usual", "long", "light")
    assert "pendulums:of_a_test, gymnasium " in str(read_run(part).protocol["environment"])
    assert load_policy(part)(np.zeros(3), task="long").shape == (1,)
