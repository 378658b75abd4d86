"""What an evaluation comes to, once it is known which agent it is of."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mtrl_ntk.errors import ConfigError, UserError
from mtrl_ntk.experiment.agents import Trained
from mtrl_ntk.experiment.config import RunConfig
from mtrl_ntk.experiment.evaluation.options import UNSEEN_SEED
from mtrl_ntk.rl.envs import BENCHMARKS
from mtrl_ntk.rl.envs.task_env import TaskEnv
from tests.experiment.evaluation.asking import plan_of
from tests.saved import CONFIG, TASKS, with_env


def as_trained_with(trained: Trained, config: RunConfig) -> Trained:
    return replace(trained, config=config)


def test_by_default_all_goals_are_run_once_and_none_is_of_training(trained: Trained) -> None:
    plan = plan_of(trained)
    assert (plan.tasks, plan.trained_as) == (TASKS, TASKS)
    assert plan.episodes == 50
    assert plan.goal_seed == UNSEEN_SEED != trained.config.seed
    assert plan.env == replace(CONFIG.env, workers=0)
    assert plan.protocol["goal_seed"] == UNSEEN_SEED
    assert plan.protocol["evaluation_episodes"] == 50
    assert "never met" in str(plan.protocol["evaluation_goals"])
    assert plan.protocol["policy"] == "deterministic"
    assert plan.protocol["horizon"] == CONFIG.env.horizon
    assert json.loads(json.dumps(plan.protocol)) == plan.protocol


@pytest.mark.parametrize(("episodes", "goals"), [(3, 3), (50, 50), (120, 50)])
def test_no_more_goals_are_named_than_are_run(trained: Trained, episodes: int, goals: int) -> None:
    plan = plan_of(trained, evaluation_episodes=episodes)
    named = f"{goals} that training never met, in turn, from the first"
    assert plan.protocol["evaluation_goals"] == named


def test_unseen_goals_are_others_than_those_of_training(trained: Trained) -> None:
    plan = plan_of(trained)
    seen, unseen = (
        TaskEnv("reach-v3", seed=seed) for seed in (trained.config.seed, plan.goal_seed)
    )
    both = np.concatenate([seen.goals, unseen.goals])
    assert len(np.unique(both, axis=0)) == len(both) == 100
    for env in (seen, unseen):
        env.close()


def test_a_run_that_was_trained_with_the_usual_seed_gets_another(trained: Trained) -> None:
    unusual = as_trained_with(trained, replace(CONFIG, seed=UNSEEN_SEED))
    assert plan_of(unusual).goal_seed not in (UNSEEN_SEED, CONFIG.seed)


def test_a_seed_chooses_the_unseen_goals(trained: Trained) -> None:
    assert plan_of(trained, seed=8).goal_seed == 8
    with pytest.raises(ConfigError, match=r"seed is 5, the seed of training"):
        plan_of(trained, seed=CONFIG.seed)


def test_the_goals_of_training_are_those_of_its_seed(trained: Trained) -> None:
    plan = plan_of(trained, goals="training")
    assert plan.goal_seed == CONFIG.seed
    assert "the training goals" in str(plan.protocol["evaluation_goals"])
    with pytest.raises(ConfigError, match="training had no goals of assembly-v3"):
        plan_of(trained, goals="training", tasks=("reach-v3", "assembly-v3", "push-v3"))


@pytest.mark.parametrize(
    ("changes", "goal_mode", "episodes"),
    [
        ({}, "resampled", 50),
        ({"goals": "training"}, "fixed", 1),
        ({"goals": "training", "sampled": True}, "fixed", 50),
        ({"goals": "training", "evaluation_episodes": 4}, "fixed", 4),
        ({"evaluation_episodes": 4}, "resampled", 4),
    ],
)
def test_a_single_goal_of_training_is_run_once(
    trained: Trained, changes: dict[str, Any], goal_mode: str, episodes: int
) -> None:
    plan = plan_of(as_trained_with(trained, with_env(goal_mode="fixed")), **changes)
    assert plan.env.goal_mode == goal_mode
    assert plan.episodes == episodes
    assert plan.protocol["goal_mode"] == "fixed"


def test_samples_say_their_seed(trained: Trained) -> None:
    plan = plan_of(trained, sampled=True, goals="training", seed=8)
    assert (plan.goal_seed, plan.action_seed) == (CONFIG.seed, 8)
    assert plan.protocol["policy"] == "sampled with seed 8"
    assert plan_of(trained, sampled=True).action_seed != CONFIG.seed


def test_other_tasks_are_run_in_the_places_of_those_of_training(trained: Trained) -> None:
    others = ("assembly-v3", "basketball-v3", "bin-picking-v3")
    plan = plan_of(trained, tasks=others)
    assert (plan.tasks, plan.trained_as) == (others, TASKS)
    assert plan.env.tasks == others
    some = plan_of(trained, tasks=("push-v3",))
    assert (some.tasks, some.trained_as) == (("push-v3",), ("push-v3",))


def test_a_benchmark_is_its_tasks(trained: Trained) -> None:
    ten = replace(trained, task_names=BENCHMARKS["MT10"][::-1])
    assert plan_of(ten, benchmark="MT10").tasks == BENCHMARKS["MT10"]
    assert plan_of(ten, benchmark="MT10").trained_as == BENCHMARKS["MT10"]
    with pytest.raises(UserError, match="not 50"):
        plan_of(ten, benchmark="MT50")


def test_an_unknown_task_is_an_error(trained: Trained) -> None:
    with pytest.raises(ConfigError, match="did you mean 'reach-v3'"):
        plan_of(trained, tasks=("reach-v2",))
