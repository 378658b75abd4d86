"""Evaluations: which episodes count, under which rules, and what they are asked of."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, NamedTuple, cast

import numpy as np
import pytest

from mtrl_ntk.experiment.evaluation import episodes as evaluation
from mtrl_ntk.experiment.evaluation.episodes import (
    evaluate,
    evaluation_rules,
    make_evaluation_envs,
    protocol,
    run_episodes,
)
from mtrl_ntk.experiment.options.sections import EvaluationConfig
from mtrl_ntk.experiment.types import EvaluationResult
from mtrl_ntk.rl.envs import ACTION_DIM, OBSERVATION_DIM, EnvConfig, MultiTaskVectorEnv, make_envs
from mtrl_ntk.rl.envs.bundle import EnvBundle
from mtrl_ntk.rl.suites.suite import EpisodeRules
from mtrl_ntk.rl.types import BoolArray, FloatArray

TASKS = ("reach-v3", "drawer-close-v3")
OBSERVATION = 5
UNCOUNTED = 99.0


class Episode(NamedTuple):
    """An episode that does not care about actions."""

    length: int
    success: bool
    total: float


class ScriptedEnvs:
    """Environments whose episodes are written down, one list per environment, run in turn.

    An observation holds the number of its environment; an action has to bring it back. Where no
    episode ended, the final infos hold nonsense that nobody should count.
    """

    def __init__(self, scripts: list[list[Episode]], num_tasks: int = 1) -> None:
        self.scripts = scripts
        self.num_envs, self.num_tasks = len(scripts), num_tasks
        self.envs_per_task = self.num_envs // num_tasks
        self.task_names = TASKS[:num_tasks]
        self.seeds: list[int | None] = []
        self.steps = np.zeros(self.num_envs, int)
        self._begun = np.zeros(self.num_envs, int)
        self._age = np.zeros(self.num_envs, int)

    def reset(self, *, seed: int | None = None) -> tuple[FloatArray, dict[str, Any]]:
        self.seeds.append(seed)
        self._begun = np.zeros_like(self._begun) if seed is not None else self._begun + 1
        self._age[:] = 0
        return self._observations(), {}

    def _observations(self) -> FloatArray:
        numbers = np.arange(self.num_envs, dtype=np.float32)
        return np.repeat(numbers[:, None], OBSERVATION, axis=1)

    def step(self, actions: FloatArray, resting: BoolArray) -> tuple[Any, ...]:
        assert (actions == self._observations()).all(), "an action of another environment"
        self.steps += ~resting
        self._age += ~resting
        episodes = [
            script[begun % len(script)]
            for script, begun in zip(self.scripts, self._begun, strict=True)
        ]
        ended = (self._age == [episode.length for episode in episodes]) & ~resting
        self._begun += ended
        self._age[ended] = 0
        infos: dict[str, Any] = {"success": np.ones(self.num_envs, np.float32)}
        if ended.any():
            success = np.array([episode.success for episode in episodes], np.float32)
            total = np.array([episode.total for episode in episodes])
            infos["final_info"] = {
                "success": np.where(ended, success, UNCOUNTED),
                "episode": {
                    "r": np.where(ended, total, UNCOUNTED),
                    "l": np.where(ended, [episode.length for episode in episodes], UNCOUNTED),
                },
            }
            infos["_final_info"] = ended
        zeros = np.zeros(self.num_envs)
        return self._observations(), zeros, ended, ended, infos


def run(envs: ScriptedEnvs, episodes: int, seed: int = 0) -> EvaluationResult:
    """Evaluates the policy that repeats its observations."""

    def policy(observations: FloatArray) -> FloatArray:
        assert observations.shape == (envs.num_tasks, envs.envs_per_task, OBSERVATION)
        return observations

    return evaluate(policy, cast(MultiTaskVectorEnv, envs), episodes=episodes, seed=seed)


def powers(count: int, base: float, length: int = 1) -> list[Episode]:
    """Failed episodes with returns of which every sum is different."""
    return [Episode(length, False, base * 2**index) for index in range(count)]


def test_early_successes_do_not_take_the_place_of_late_failures() -> None:
    quick, slow = Episode(1, True, 3.0), Episode(10, False, 1.0)
    result = run(ScriptedEnvs([[quick], [slow]]), episodes=4)
    # The first four episodes to end are all successes of the first copy.
    assert result.success_rates.tolist() == [0.5]
    assert result.mean_returns.tolist() == [2.0]


@pytest.mark.parametrize(
    ("episodes", "shares"), [(1, (1, 0, 0)), (3, (1, 1, 1)), (5, (2, 2, 1)), (9, (3, 3, 3))]
)
def test_every_copy_runs_its_share(episodes: int, shares: tuple[int, ...]) -> None:
    bases, lengths = (1.0, 1e3, 1e6), (1, 7, 2)
    scripts = [powers(9, base, length) for base, length in zip(bases, lengths, strict=True)]
    result = run(ScriptedEnvs(scripts), episodes)
    total = sum(base * (2**share - 1) for base, share in zip(bases, shares, strict=True))
    assert result.mean_returns.tolist() == [total / episodes]
    assert result.episodes == episodes


def test_every_episode_is_kept_at_the_place_of_its_goal() -> None:
    lengths = [[3, 1, 4, 1], [5, 9, 2, 6], [5, 3, 5, 8], [9, 7, 9, 3]]
    # Two tasks of two copies: episode e of a task is episode e // 2 of copy e % 2.
    scripts = [
        [Episode(length, length % 2 == 1, 10.0 * length) for length in row] for row in lengths
    ]
    envs = ScriptedEnvs(scripts, num_tasks=2)
    ended: list[int] = []
    episodes = run_episodes(
        lambda observations: observations,
        cast(MultiTaskVectorEnv, envs),
        episodes=3,
        seed=0,
        report=ended.append,
    )
    expected = np.array([[3, 5, 1], [5, 9, 3]])
    assert episodes.lengths.tolist() == expected.tolist()
    assert episodes.returns.tolist() == (10.0 * expected).tolist()
    assert episodes.successes.tolist() == (expected % 2 == 1).tolist()
    assert sum(ended) == 6
    assert 0 not in ended


def test_tasks_are_counted_apart() -> None:
    scripts = [
        [Episode(2, True, 1.0)],
        [Episode(3, True, 3.0), Episode(3, False, 5.0)],
        [Episode(1, False, -10.0)],
        [Episode(9, False, -30.0), Episode(1, True, -50.0)],
    ]
    result = run(ScriptedEnvs(scripts, num_tasks=2), episodes=4)
    assert result.task_names == TASKS
    assert result.success_rates.tolist() == [0.75, 0.25]
    assert result.mean_returns.tolist() == [2.5, -25.0]
    assert result.mean_success_rate == 0.5


def test_environments_rest_after_their_last_episode_that_counts() -> None:
    envs = ScriptedEnvs([[Episode(3, False, 0.0)], [Episode(5, False, 0.0)]])
    run(envs, episodes=3)
    assert envs.steps.tolist() == [6, 5]


def test_the_seed_makes_evaluations_alike() -> None:
    envs = ScriptedEnvs([powers(4, 1.0), powers(4, 100.0, 3)])
    first, second = run(envs, episodes=3, seed=7), run(envs, episodes=3, seed=7)
    assert envs.seeds == [7, 7]
    assert first.mean_returns.tolist() == second.mean_returns.tolist() == [(1 + 2 + 100) / 3]


def test_the_protocol_says_what_the_numbers_mean() -> None:
    stated = protocol(EnvConfig(), EvaluationConfig())
    assert stated["goal_mode"] == "resampled"
    assert stated["goals_per_task"] == 50
    assert stated["horizon"] == 500
    assert stated["reward_version"] == "v2"
    assert stated["reward_normalization"] == "none"
    assert stated["evaluation_episodes"] == 50
    assert stated["policy"] == "deterministic"
    assert json.loads(json.dumps(stated)) == stated


def test_the_protocol_follows_the_configuration() -> None:
    env = EnvConfig(
        goal_mode="fixed",
        horizon=200,
        reward_version="v1",
        reward_normalization="running_variance",
    )
    changed = {
        "goal_mode": "fixed",
        "goals_per_task": 1,
        "horizon": 200,
        "reward_version": "v1",
        "reward_normalization": "running_variance",
        "evaluation_episodes": 7,
    }
    usual = protocol(EnvConfig(), EvaluationConfig())
    assert protocol(env, EvaluationConfig(evaluation_episodes=7)) == usual | changed


def test_the_protocol_names_a_success_rate_that_ends_a_run_only_if_there_is_one() -> None:
    usual = protocol(EnvConfig(), EvaluationConfig())
    end = {"end": "at an evaluation with a mean success of 0.98, if there is one"}
    assert protocol(EnvConfig(), EvaluationConfig(stop_at=0.98)) == usual | end


ONE_TASK = EnvConfig(tasks=("drawer-close-v3",), horizon=1, workers=0)


def test_evaluation_runs_the_training_goals_in_turn() -> None:
    envs = make_evaluation_envs(ONE_TASK, EvaluationConfig(evaluation_episodes=2), seed=3)
    training_envs = make_envs(ONE_TASK, seed=3)
    assert isinstance(envs._stepper, EnvBundle)
    assert isinstance(training_envs._stepper, EnvBundle)
    copies = list(envs._stepper.envs.values())
    for copy in copies:
        np.testing.assert_array_equal(copy.goals, training_envs._stepper.envs[0].goals)
    envs.reset(seed=3)
    goals = [[copy.goal_index for copy in copies]]
    envs.step(np.zeros((envs.num_envs, ACTION_DIM)))
    goals.append([copy.goal_index for copy in copies])
    assert goals == [[0, 1], [2, 3]]
    envs.close()
    training_envs.close()


def test_evaluation_keeps_the_rules_but_ends_with_success() -> None:
    config = replace(ONE_TASK, horizon=20, reward_version="v1")
    envs = make_evaluation_envs(config, EvaluationConfig(evaluation_episodes=1), seed=0)
    assert isinstance(envs._stepper, EnvBundle)
    (env,) = envs._stepper.envs.values()
    assert env.rules == EpisodeRules(
        horizon=20, reward_version="v1", goal_mode="in_order", terminate_on_success=True
    )
    assert env.rules == evaluation_rules(config)
    envs.close()


def test_evaluation_scales_no_rewards() -> None:
    config = replace(ONE_TASK, reward_normalization="running_variance")
    envs = make_evaluation_envs(config, EvaluationConfig(evaluation_episodes=1), seed=0)
    assert envs.reward_scaler is None
    envs.close()


def test_a_fixed_training_goal_is_the_evaluation_goal() -> None:
    config = replace(ONE_TASK, goal_mode="fixed")
    envs = make_evaluation_envs(config, EvaluationConfig(evaluation_episodes=2), seed=0)
    training_envs = make_envs(config, seed=0)
    assert isinstance(envs._stepper, EnvBundle)
    assert isinstance(training_envs._stepper, EnvBundle)
    observations, _ = envs.reset(seed=0)
    training_envs.reset(seed=0)
    goals = {env.goal_index for env in envs._stepper.envs.values()}
    assert goals == {training_envs._stepper.envs[0].goal_index}
    assert (observations == observations[0]).all()
    envs.close()
    training_envs.close()


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, object]]:
    """Arguments with which environments would have been made."""
    calls: list[dict[str, object]] = []
    monkeypatch.setattr(evaluation, "make_envs", lambda _, **arguments: calls.append(arguments))
    return calls


@pytest.mark.parametrize(("workers", "expected"), [(0, 0), (1, 2), (3, 4)])
def test_the_idle_learners_core_gets_a_worker(
    made: list[dict[str, object]], workers: int, expected: int
) -> None:
    make_evaluation_envs(EnvConfig(workers=workers), EvaluationConfig(), seed=0)
    assert made[0]["workers"] == expected


@pytest.mark.parametrize(("episodes", "copies"), [(1, 1), (4, 4), (5, 5), (50, 5)])
def test_no_copy_is_without_an_episode(
    made: list[dict[str, object]], episodes: int, copies: int
) -> None:
    make_evaluation_envs(EnvConfig(), EvaluationConfig(evaluation_episodes=episodes), seed=0)
    assert made[0]["envs_per_task"] == copies


def test_a_real_evaluation_repeats_itself() -> None:
    config = replace(ONE_TASK, tasks=("reach-v3",), horizon=15)
    envs = make_evaluation_envs(config, EvaluationConfig(evaluation_episodes=2), seed=0)

    def push(observations: FloatArray) -> FloatArray:
        assert observations.shape == (1, 2, OBSERVATION_DIM)
        return np.tile(np.array([0.3, -1, 0, 0], np.float32), (1, 2, 1))

    first = evaluate(push, envs, episodes=3, seed=0)
    envs.step(np.ones((2, ACTION_DIM)))
    second = evaluate(push, envs, episodes=3, seed=0)
    other = evaluate(push, envs, episodes=3, seed=1)
    assert first.mean_returns.tolist() == second.mean_returns.tolist()
    assert first.mean_returns.tolist() != other.mean_returns.tolist()
    envs.close()
