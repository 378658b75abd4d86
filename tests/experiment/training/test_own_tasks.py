"""Runs on tasks that a program has at hand, and on such in which nothing counts as success."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from mtrl_ntk.errors import ConfigError
from mtrl_ntk.experiment.checkpoints.archive import load_newest
from mtrl_ntk.experiment.config import RunConfig, with_suite
from mtrl_ntk.experiment.evaluation.evaluate import evaluate_agent
from mtrl_ntk.experiment.evaluation.options import EvaluationOptions
from mtrl_ntk.experiment.logs.progress import print_result
from mtrl_ntk.experiment.options.sections import EvaluationConfig, LoopConfig, VideoConfig
from mtrl_ntk.experiment.training.run import train
from mtrl_ntk.rl.envs import EnvConfig
from mtrl_ntk.rl.sac import SacConfig
from mtrl_ntk.rl.suites.registry import SUITES, add_tasks
from tests.own_tasks import make_silent, make_tasks


def config(folder: Path, steps: int = 30) -> RunConfig:
    return RunConfig(
        run_dir=folder,
        device="cpu",
        threads=1,
        env=EnvConfig(workers=0, features="running"),
        sac=SacConfig(batch_size=4, width=8, depth=1),
        loop=LoopConfig(steps, warmstart_steps=8, replay_capacity=100, log_every=5),
        evaluation=EvaluationConfig(evaluate_every=10, evaluation_episodes=2),
    )


def rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as lines:
        return list(csv.DictReader(lines))


def test_mean_returns_stand_where_nothing_counts_as_success(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    result = train(config(run), suite=make_silent)
    assert result.task_names == ("left", "right")
    assert not result.has_success
    assert result.score == result.mean_returns.mean() < 0
    assert "evaluation: mean return -" in capsys.readouterr().out
    evaluated = rows(run / "evaluation.csv")
    assert {row["success_rate"] for row in evaluated} == {""}
    assert all(float(row["mean_return"]) < 0 for row in evaluated)
    assert (run / "plots" / "returns.png").exists()
    assert not (run / "plots" / "success.png").exists()
    stated = json.loads((run / "run.json").read_text())["protocol"]
    assert stated["success"] == "none: mean returns count"
    saved = load_newest(run / "checkpoint").checkpoint.metadata
    assert saved["score"] == pytest.approx(result.score)
    with (tmp_path / "shown").open("w") as file:
        print_result(result, Console(file=file))
    assert "%" not in (tmp_path / "shown").read_text()


def test_a_run_on_given_tasks_is_evaluated_and_resumed(tmp_path: Path) -> None:
    whole, part, unrecorded = (tmp_path / name for name in ("whole", "part", "unrecorded"))
    train(config(whole), suite=make_tasks)
    # Moments that run are seen by updates that are repeated from a recording.
    train(replace(config(unrecorded), cuda_graph=False), suite=make_tasks)
    train(config(part, 20), suite=make_tasks)
    train(replace(config(part), resume=part), suite=make_tasks)
    agents = [
        load_newest(folder / "checkpoint").checkpoint.tensors
        for folder in (whole, part, unrecorded)
    ]
    assert "features.mean" in agents[0]
    for other in agents[1:]:
        assert all(agents[0][name].equal(other[name]) for name in agents[0])
    out = tmp_path / "out"
    asked = EvaluationOptions(run=part, workers=0, out=out, evaluation_episodes=3, device="cpu")
    evaluate_agent(replace(asked, videos=VideoConfig(video_camera="render")))
    assert [row["task"] for row in rows(out / "evaluation.csv")] == ["left", "right", "mean"]
    with pytest.raises(ConfigError, match="video_camera is 'corner'; it must be one of render"):
        evaluate_agent(replace(asked, videos=VideoConfig(video_camera="corner")))
    del SUITES["tests.own_tasks:make_tasks"]
    with pytest.raises(ConfigError, match=r"--suite tests\.own_tasks:make"):
        evaluate_agent(asked)
    evaluate_agent(replace(asked, suite="tests.own_tasks:make_tasks", out=tmp_path / "again"))


def test_what_was_left_to_one_suite_is_left_to_the_other() -> None:
    suite = add_tasks(make_tasks, "masses:of_this_test")
    own = with_suite(RunConfig(env=EnvConfig(goal_mode="fixed", envs_per_task=3)), suite).env
    assert (own.horizon, own.tasks, own.reward_version) == (12, ("left", "right"), "")
    assert (own.goal_mode, own.envs_per_task) == ("fixed", 3)
    with pytest.raises(ConfigError, match="horizon is 100; it must be from 1 to 12"):
        with_suite(RunConfig(env=EnvConfig(horizon=100)), suite)
    assert RunConfig(env=own).group == "masses"
