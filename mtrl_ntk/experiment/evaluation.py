"""Success rates of a policy under a stated protocol."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mtrl_ntk.experiment.agents import (
    CHECKPOINT,
    CONFIG,
    load_agent,
    policy_of,
    resolve_device,
)
from mtrl_ntk.experiment.progress import print_result
from mtrl_ntk.rl.envs import (
    EnvConfig,
    MultiTaskVectorEnv,
    make_envs,
    resolved_workers,
    task_names,
)

FloatArray = npt.NDArray[np.float32]
Policy = Callable[[FloatArray], FloatArray]
"""Maps observations ``[tasks, copies, observation]`` to actions ``[tasks, copies, action]``."""

_COPIES = 5


@dataclass(frozen=True)
class EvaluationConfig:
    """How often and how thoroughly the policy is evaluated."""

    evaluate_every: int = 20_000
    """Vector steps between evaluations; the last step is always evaluated."""
    evaluation_episodes: int = 50
    """Episodes per task in each evaluation, over the task's goals in turn."""


@dataclass(frozen=True)
class EvaluationResult:
    """Success and return per task."""

    task_names: tuple[str, ...]
    """Names in the order of the arrays."""
    success_rates: npt.NDArray[np.float64]
    """Share of successful episodes, ``[tasks]``."""
    mean_returns: npt.NDArray[np.float64]
    """Mean undiscounted return up to the episode's end, ``[tasks]``."""
    episodes: int
    """Episodes per task."""

    @property
    def mean_success_rate(self) -> float:
        """Mean success rate over the tasks."""
        return float(self.success_rates.mean())


def protocol(env: EnvConfig, evaluation: EvaluationConfig) -> dict[str, object]:
    """What the success rates of a run mean; stands in its results and checkpoints."""
    return {
        "environment": f"Meta-World V3, metaworld {metadata.version('metaworld')}",
        "reward_version": env.reward_version,
        "goal_mode": env.goal_mode,
        "goals_per_task": 1 if env.goal_mode == "fixed" else 50,
        "horizon": env.horizon,
        "evaluation_episodes": evaluation.evaluation_episodes,
        "evaluation_goals": "the training goals in turn, from the first",
        "policy": "deterministic",
        "success": "at any step; the episode ends with it",
        "score": "last evaluation",
    }


def make_evaluation_envs(
    config: EnvConfig, evaluation: EvaluationConfig, *, seed: int
) -> MultiTaskVectorEnv:
    """Makes environments of the same tasks and goals as the training's, apart from them.

    Args:
        config: The training environments.
        evaluation: The evaluations that will run in them.
        seed: Seed of the goals: the training's for the same goals.
    """
    workers = resolved_workers(config)
    return make_envs(
        config,
        seed=seed,
        envs_per_task=min(_COPIES, evaluation.evaluation_episodes),
        goal_mode="fixed" if config.goal_mode == "fixed" else "in_order",
        terminate_on_success=True,
        # The learner waits meanwhile, so that one more process has a core to itself.
        workers=workers + 1 if workers else 0,
    )


def evaluate(
    policy: Policy, envs: MultiTaskVectorEnv, *, episodes: int, seed: int
) -> EvaluationResult:
    """Runs a fixed number of episodes of every task.

    Every copy of a task runs its own share of the episodes. Counting the first to end instead would
    favour successes, which end early.

    Args:
        policy: The policy.
        envs: Environments made by :func:`make_evaluation_envs`.
        episodes: Episodes per task.
        seed: Seed with which the environments are reset, so that evaluations are alike.
    """
    shape = (envs.num_tasks, envs.envs_per_task)
    share = -(-(episodes - np.arange(envs.envs_per_task)) // envs.envs_per_task)
    done = np.zeros(shape, dtype=np.int64)
    successes, returns = np.zeros(shape), np.zeros(shape)
    observations, _ = envs.reset(seed=seed)
    while (done < share).any():
        actions = policy(observations.reshape(*shape, -1))
        observations, _, _, _, infos = envs.step(actions.reshape(envs.num_envs, -1))
        if "final_info" in infos:
            counted = infos["_final_info"].reshape(shape) & (done < share)
            final = infos["final_info"]
            successes += counted * final["success"].reshape(shape)
            returns += counted * final["episode"]["r"].reshape(shape)
            done += counted
    return EvaluationResult(
        task_names=envs.task_names,
        success_rates=successes.sum(1) / episodes,
        mean_returns=returns.sum(1) / episodes,
        episodes=episodes,
    )


def evaluate_run(
    run_dir: Path, *, episodes: int | None, seed: int | None, device: str, workers: int
) -> EvaluationResult:
    """Evaluates the checkpoint of a run under the run's own protocol and prints the table.

    Args:
        run_dir: Folder of the run.
        episodes: Episodes per task; None takes the run's number.
        seed: Seed of goals and initial states; None takes the run's, and so the training goals.
        device: ``auto``, ``cpu`` or ``cuda``.
        workers: Processes that step the environments; -1 chooses by cores.

    Raises:
        UserError: If the folder does not hold a run that can be evaluated.
    """
    from mtrl_ntk.experiment import config as configuration

    config = configuration.read(run_dir / CONFIG)
    seed = config.seed if seed is None else seed
    evaluation = replace(
        config.evaluation, evaluation_episodes=episodes or config.evaluation.evaluation_episodes
    )
    names = task_names(config.env.benchmark, config.env.tasks or None)
    agent = load_agent(config, run_dir / CHECKPOINT, len(names), resolve_device(device))
    env_config = replace(config.env, workers=workers)
    with closing(make_evaluation_envs(env_config, evaluation, seed=seed)) as envs:
        result = evaluate(
            policy_of(agent, deterministic=True),
            envs,
            episodes=evaluation.evaluation_episodes,
            seed=seed,
        )
    print_result(result)
    return result
