"""What an evaluation comes to: tasks, goals, episodes, and what its numbers mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from mtrl_ntk.errors import ConfigError
from mtrl_ntk.experiment.agents import places_of
from mtrl_ntk.experiment.config import RunConfig
from mtrl_ntk.experiment.evaluation.episodes import protocol
from mtrl_ntk.experiment.evaluation.options import UNSEEN_SEED, EvaluationOptions
from mtrl_ntk.experiment.options.sections import EvaluationConfig
from mtrl_ntk.rl.envs.config import EnvConfig
from mtrl_ntk.rl.suites.registry import load_suite


@dataclass(frozen=True)
class Plan:
    """What an evaluation comes to, once it is known which agent it is of."""

    tasks: tuple[str, ...]
    """Tasks that are run."""
    trained_as: tuple[str, ...]
    """Which of its tasks the agent takes each of them for."""
    env: EnvConfig
    """Environments of these tasks."""
    episodes: int
    """Episodes per task."""
    goal_seed: int
    """Seed of the goals."""
    action_seed: int
    """Seed of sampled actions."""
    protocol: dict[str, object]
    """What the numbers mean."""


def make_plan(options: EvaluationOptions, config: RunConfig, trained: tuple[str, ...]) -> Plan:
    """Decides what the options mean for an agent.

    Args:
        options: What was asked for.
        config: The agent's run.
        trained: The tasks that it was trained on.

    Raises:
        UserError: If they ask for what it cannot be asked.
    """
    suite = config.env.task_suite  # which is to be imported by now
    if options.suite is not None and options.suite not in (suite.name, suite.source):
        named = load_suite(options.suite).name
        if named != suite.name:
            raise ConfigError(f"suite is {named}; the run is of {suite.name}")
    if options.videos.video_camera is not None:
        suite.check_choice("video_camera", options.videos.video_camera)
    tasks = _tasks(options, config, trained)
    places = places_of(tasks, trained)
    env = replace(config.env, tasks=tasks, workers=options.workers)
    if options.goals == "unseen":
        # New goals for a policy of a single one, too.
        env = replace(env, goal_mode="resampled")
        goal_seed = _unseen_seed(options.seed, config.seed)
        goals = "{} that training never met, in turn, from the first"
    else:
        _require_trained(tasks, trained)
        goal_seed, goals = config.seed, "the training goals in turn, from the first"
    only_one = env.goal_mode == "fixed" and not options.sampled
    usual = min(suite.goals_per_task, _USUAL_EPISODES)
    episodes = options.evaluation_episodes or (1 if only_one else usual)
    action_seed = UNSEEN_SEED if options.seed is None else options.seed
    stated = protocol(config.env, EvaluationConfig(evaluation_episodes=episodes)) | {
        "evaluation_goals": goals.format(min(episodes, suite.goals_per_task)),
        "goal_seed": goal_seed,
        "policy": f"sampled with seed {action_seed}" if options.sampled else "deterministic",
        "score": "this evaluation",
    }
    return Plan(
        tasks=tasks,
        trained_as=tuple(trained[place] for place in places),
        env=env,
        episodes=episodes,
        goal_seed=goal_seed,
        action_seed=action_seed,
        protocol=stated,
    )


_USUAL_EPISODES = 50


def _tasks(
    options: EvaluationOptions, config: RunConfig, trained: tuple[str, ...]
) -> tuple[str, ...]:
    if options.benchmark is not None or options.tasks:
        suite = config.env.task_suite
        if options.benchmark is not None:
            suite.check_choice("benchmark", options.benchmark)
        return suite.task_names(options.benchmark, options.tasks or None)
    return trained


def _unseen_seed(asked: int | None, training_seed: int) -> int:
    if asked == training_seed:
        raise ConfigError(
            f"seed is {asked}, the seed of training, whose goals are not unseen; "
            "choose another, or --goals training"
        )
    if asked is not None:
        return asked
    return UNSEEN_SEED if training_seed != UNSEEN_SEED else UNSEEN_SEED + 1


def _require_trained(tasks: Sequence[str], trained: Sequence[str]) -> None:
    others = [task for task in tasks if task not in trained]
    if others:
        raise ConfigError(
            f"goals is training, but training had no goals of {', '.join(others)}; "
            "leave --goals out"
        )
