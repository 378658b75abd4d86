"""Files of an evaluation: what they say, and that they agree."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from mtrl_ntk.errors import UserError
from mtrl_ntk.experiment.agents import Trained, policy_of
from mtrl_ntk.experiment.evaluation.episodes import evaluate, make_evaluation_envs
from mtrl_ntk.experiment.evaluation.evaluate import evaluate_agent
from mtrl_ntk.experiment.evaluation.options import UNSEEN_SEED
from mtrl_ntk.experiment.options.sections import EvaluationConfig
from mtrl_ntk.experiment.types import EvaluationResult
from tests.experiment.evaluation.asking import asked, plan_of
from tests.saved import CONFIG, STEPS, TASKS

EPISODES = 3


Evaluated = tuple[Path, EvaluationResult]
"""Folder of the results, and what was returned."""


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def evaluated(run_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Evaluated:
    out = tmp_path_factory.mktemp("results") / "of" / "one"
    return out, evaluate_agent(asked(run=run_dir, evaluation_episodes=EPISODES, out=out))


def test_an_evaluation_leaves_its_numbers(evaluated: Evaluated, trained: Trained) -> None:
    out, result = evaluated
    assert {path.name for path in out.iterdir()} == {
        "evaluation.json",
        "evaluation.csv",
        "episodes.csv",
    }
    envs = make_evaluation_envs(
        CONFIG.env, EvaluationConfig(evaluation_episodes=EPISODES), seed=UNSEEN_SEED
    )
    policy = policy_of(trained.actor)
    expected = evaluate(policy, envs, episodes=EPISODES, seed=UNSEEN_SEED)
    envs.close()
    assert result.success_rates.tolist() == expected.success_rates.tolist()
    assert result.mean_returns.tolist() == expected.mean_returns.tolist()
    content = json.loads((out / "evaluation.json").read_text())
    assert [task["task"] for task in content["tasks"]] == list(TASKS)
    assert [task["mean_return"] for task in content["tasks"]] == expected.mean_returns.tolist()
    assert content["mean_success_rate"] == expected.mean_success_rate
    assert content["protocol"] == plan_of(trained, evaluation_episodes=EPISODES).protocol
    assert content["agent"]["checkpoint"] == str(trained.folder)
    assert content["agent"]["counters"]["vector_steps"] == STEPS
    assert content["versions"]["metaworld"]


def test_every_row_says_what_it_means(evaluated: Evaluated, trained: Trained) -> None:
    table = rows(evaluated[0] / "evaluation.csv")
    assert [row["task"] for row in table] == [*TASKS, "mean"]
    protocol = plan_of(trained, evaluation_episodes=EPISODES).protocol
    for row in table:
        assert {name: row[name] for name in protocol} == {k: str(v) for k, v in protocol.items()}
        assert (row["method"], row["training_seed"], row["vector_steps"]) == ("equal", "5", "7")
        assert row["episodes"] == str(EPISODES)
    returns = [float(row["mean_return"]) for row in table]
    assert returns[:-1] == evaluated[1].mean_returns.tolist()
    assert returns[-1] == pytest.approx(np.mean(returns[:-1]))


def test_the_tables_agree(evaluated: Evaluated) -> None:
    episodes = rows(evaluated[0] / "episodes.csv")
    assert [(row["task"], row["episode"]) for row in episodes] == [
        (task, str(episode)) for task in TASKS for episode in (1, 2, 3)
    ]
    for row in rows(evaluated[0] / "evaluation.csv")[:-1]:
        own = [each for each in episodes if each["task"] == row["task"]]
        for name, mean in (
            ("success", "success_rate"),
            ("return", "mean_return"),
            ("length", "mean_length"),
        ):
            assert float(row[mean]) == pytest.approx(np.mean([float(each[name]) for each in own]))


def test_results_are_not_overwritten(evaluated: Evaluated, run_dir: Path) -> None:
    before = (evaluated[0] / "evaluation.json").read_bytes()
    with pytest.raises(UserError, match="already holds an evaluation; choose another --out"):
        evaluate_agent(asked(run=run_dir, out=evaluated[0]))
    assert (evaluated[0] / "evaluation.json").read_bytes() == before
