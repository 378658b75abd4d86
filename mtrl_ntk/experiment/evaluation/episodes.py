"""Success rates of a policy under a stated protocol."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mtrl_ntk.experiment.options.sections import EvaluationConfig
from mtrl_ntk.experiment.types import NO_SUCCESS, EvaluationResult, PolicyFunction
from mtrl_ntk.rl.envs import (
    EnvConfig,
    EpisodeRules,
    MultiTaskVectorEnv,
    make_envs,
    resolved_workers,
)

_COPIES = 5


@dataclass(frozen=True)
class Episodes:
    """Every episode of an evaluation; ``[tasks, episodes]``, in the order of the goals."""

    successes: npt.NDArray[np.float64]
    """1 for those that succeeded, 0 for others; NaN where nothing counts as success."""
    returns: npt.NDArray[np.float64]
    """Undiscounted return up to the episode's end."""
    lengths: npt.NDArray[np.int64]
    """Environment steps."""


def protocol(env: EnvConfig, evaluation: EvaluationConfig) -> dict[str, object]:
    """What the success rates of a run mean; stands in its results and checkpoints."""
    suite = env.task_suite
    stop = evaluation.stop_at
    stated = {"end": f"at an evaluation with a mean success of {stop:g}, if there is one"}
    return {
        "environment": suite.description,
        "observations": env.features,
        "reward_version": env.reward_version or "the only one",
        "reward_normalization": env.reward_normalization,
        "goal_mode": env.goal_mode,
        "goals_per_task": 1 if env.goal_mode == "fixed" else suite.goals_per_task,
        "horizon": env.horizon,
        "evaluation_episodes": evaluation.evaluation_episodes,
        "evaluation_goals": "the training goals in turn, from the first",
        "policy": "deterministic",
        "success": suite.success or NO_SUCCESS,
        "score": "last evaluation",
    } | (stated if stop else {})


def evaluation_rules(config: EnvConfig) -> EpisodeRules:
    """What an episode of an evaluation is, given the training environments."""
    return EpisodeRules(
        config.horizon,
        config.reward_version,
        goal_mode="fixed" if config.goal_mode == "fixed" else "in_order",
        terminate_on_success=True,
        lean=config.lean,
    )


def make_evaluation_envs(
    config: EnvConfig,
    evaluation: EvaluationConfig,
    *,
    seed: int,
    report: Callable[[str], object] = warnings.warn,
) -> MultiTaskVectorEnv:
    """Makes environments of the same tasks and goals as the training's, apart from them.

    Args:
        config: The training environments.
        evaluation: The evaluations that will run in them.
        seed: Seed of the goals: the training's for the same goals.
        report: Told of each lost worker that was replaced.
    """
    workers, rules = resolved_workers(config), evaluation_rules(config)
    return make_envs(
        config,
        seed=seed,
        envs_per_task=min(_COPIES, evaluation.evaluation_episodes),
        goal_mode=rules.goal_mode,
        terminate_on_success=rules.terminate_on_success,
        reward_normalization="none",
        report=report,
        # The learner waits meanwhile, so that one more process has a core to itself.
        workers=workers + 1 if workers else 0,
    )


def evaluate(
    policy: PolicyFunction, envs: MultiTaskVectorEnv, *, episodes: int, seed: int
) -> EvaluationResult:
    """Runs a fixed number of episodes of every task; see :func:`run_episodes`."""
    outcome = run_episodes(policy, envs, episodes=episodes, seed=seed)
    return EvaluationResult(
        task_names=envs.task_names,
        success_rates=outcome.successes.mean(1),
        mean_returns=outcome.returns.mean(1),
        episodes=episodes,
    )


def run_episodes(
    policy: PolicyFunction,
    envs: MultiTaskVectorEnv,
    *,
    episodes: int,
    seed: int,
    report: Callable[[int], None] = lambda _: None,
) -> Episodes:
    """Runs a fixed number of episodes of every task.

    Every copy of a task runs its own share of the episodes. Counting the first to end instead would
    favour successes, which end early.

    Args:
        policy: The policy.
        envs: Environments made by :func:`make_evaluation_envs`.
        episodes: Episodes per task.
        seed: Seed with which the environments are reset, so that evaluations are alike.
        report: Called with the number of episodes that have just ended, whenever some do.
    """
    num_tasks, copies = envs.num_tasks, envs.envs_per_task
    # Copy c runs the episodes c, c + copies, c + 2 copies, ...: those of such goals.
    upcoming = np.tile(np.arange(copies), (num_tasks, 1))
    shape = (num_tasks, episodes)
    successes, returns, lengths = np.zeros(shape), np.zeros(shape), np.zeros(shape, np.int64)
    observations, _ = envs.reset(seed=seed)
    while not (is_over := upcoming >= episodes).all():
        actions = policy(observations.reshape(num_tasks, copies, -1))
        observations, _, _, _, infos = envs.step(
            actions.reshape(envs.num_envs, -1), resting=is_over.ravel()
        )
        if "final_info" in infos:
            ended = infos["_final_info"].reshape(num_tasks, copies)
            tasks, copy = np.nonzero(ended)
            places = tasks, upcoming[ended]
            final = infos["final_info"]
            rows = tasks * copies + copy
            successes[places] = final["success"][rows]
            returns[places] = final["episode"]["r"][rows]
            lengths[places] = final["episode"]["l"][rows]
            upcoming[ended] += copies
            report(int(ended.sum()))
    return Episodes(successes, returns, lengths)
