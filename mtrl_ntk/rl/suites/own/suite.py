"""A suite of a user's own tasks: found, made, and checked before anything is trained."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from gymnasium import Wrapper
from gymnasium.vector.utils import CloudpickleWrapper
from gymnasium.wrappers import TimeLimit

from mtrl_ntk.errors import ConfigError
from mtrl_ntk.modules import import_named, reason
from mtrl_ntk.rl.suites.own.simulation import (
    CAMERA,
    NUM_STARTS,
    OwnSimulation,
    as_floats,
    success_in,
)
from mtrl_ntk.rl.suites.own.tasks import AnyEnv, Tasks, check_spaces
from mtrl_ntk.rl.suites.suite import EpisodeRules, Suite

Origin = Tasks | Mapping[str, Any] | Callable[[], Any]
"""Tasks, a mapping from their names to what makes them, or a function that returns either."""


@lru_cache
def named_tasks(reference: str) -> Tasks:
    """The tasks of a function that is named ``module:function`` or ``file.py:function``.

    Raises:
        ConfigError: If there is no such function, or it gives no tasks.
    """
    module, colon, function = reference.rpartition(":")
    if not colon or not module or not function.isidentifier():
        raise ConfigError("it must be module:function, or file.py:function")
    found = import_named(module, of_folder=True)
    if not hasattr(found, function):
        raise ConfigError(f"{module} has no function {function}")
    return as_tasks(getattr(found, function))


def as_tasks(origin: object) -> Tasks:
    """Tasks as a user has given them.

    Raises:
        ConfigError: If there are none in it.
    """
    given: Any = origin() if callable(origin) else origin
    return given if isinstance(given, Tasks) else Tasks(given)


@dataclass(frozen=True)
class _Named:
    """Makes simulations of the tasks that a name stands for; a worker imports them by itself."""

    reference: str

    def __call__(self, task: str, rules: EpisodeRules) -> OwnSimulation:
        return OwnSimulation(named_tasks(self.reference), task, rules)


@dataclass(frozen=True)
class _Given:
    """Makes simulations of given tasks, which travel to workers by value."""

    tasks: CloudpickleWrapper[Any]

    def __call__(self, task: str, rules: EpisodeRules) -> OwnSimulation:
        tasks: Any = self.tasks.fn
        return OwnSimulation(tasks, task, rules)


def suite_of_name(reference: str) -> Suite:
    """The suite of a function that is named ``module:function`` or ``file.py:function``.

    A file is called by its own name, wherever it lies, as if it was imported as a module.

    Raises:
        ConfigError: If it cannot be used, in one line that says why.
    """
    module, _, function = reference.rpartition(":")
    if module.endswith(".py"):
        reference = f"{Path(module).absolute()}:{function}"
        module = Path(module).stem
    name = f"{module}:{function}"
    try:
        tasks = named_tasks(reference)
        return _suite(name, tasks, _Named(reference), reference)
    except (Exception, SystemExit) as error:
        raise ConfigError(f"suite {reference} cannot be used: {reason(error)}") from error


def suite_of(origin: Origin, name: str | None = None) -> Suite:
    """The suite of tasks that a program has at hand.

    Args:
        origin: The tasks.
        name: What to call the suite; by default the name of their function.

    Raises:
        ConfigError: If they cannot be used, in one line that says why.
    """
    function = getattr(origin, "__qualname__", "tasks")
    name = name or re.sub(r"[^\w.:]+", "", f"{getattr(origin, '__module__', 'own')}:{function}")
    try:
        tasks = as_tasks(origin)
        by_value: Any = CloudpickleWrapper(tasks)  # type: ignore[arg-type]
        return _suite(name, tasks, _Given(by_value), name)
    except Exception as error:
        raise ConfigError(f"suite {name} cannot be used: {reason(error)}") from error


class _Facts(NamedTuple):
    """What is found out about a task by trying it."""

    observation_dim: int
    action_dim: int
    horizon: int | None
    rate: float
    says_success: bool
    repeats: bool


def _suite(
    name: str,
    tasks: Tasks,
    simulate: Callable[[str, EpisodeRules], OwnSimulation],
    source: str,
) -> Suite:
    facts = {task: _try(task, tasks) for task in tasks.envs}
    first, *others = facts
    for other in others:
        _require_equal(first, other, facts)
    has_success = _has_success(tasks, facts)
    repeats = [task for task, fact in facts.items() if not fact.repeats]
    return Suite(
        name=name,
        title=tasks.title or name,
        observation_dim=facts[first].observation_dim,
        action_dim=facts[first].action_dim,
        tasks=tuple(facts),
        benchmarks={"all": tuple(facts)},
        goals_per_task=NUM_STARTS,
        max_horizon=_horizon(tasks, facts),
        simulate=simulate,
        packages=("gymnasium",),
        steps_per_second=facts[first].rate,
        cameras=(CAMERA,),
        source=source,
        success=_success(tasks) if has_success else None,
        remark=_REPEATS_NOT.format(", ".join(repeats)) if repeats else None,
    )


_REPEATS_NOT = (
    "not exact when resumed: {} do not repeat themselves when reset with the same seed, so a run "
    "that is resumed, or has replaced a lost worker, goes on from other states than it left"
)


def _try(name: str, tasks: Tasks) -> _Facts:
    """Makes a task, checks its spaces, and takes a few steps twice."""
    with closing(tasks.make(name)) as env:
        check_spaces(name, env)
        first, says_success = _few_steps(env)
        second, _ = _few_steps(env)
        shape = env.observation_space.shape
        assert shape is not None
        if first[0].shape != shape:
            raise ConfigError(
                f"task {name} gave an observation of shape {first[0].shape}, and its "
                f"observation_space is of {shape}"
            )
        actions = env.action_space.shape
        assert actions is not None
        return _Facts(
            shape[0],
            actions[0],
            _longest(env),
            float(env.metadata.get("render_fps") or _USUAL_RATE),
            says_success,
            all(map(np.array_equal, first, second)),
        )


def _longest(env: AnyEnv) -> int | None:
    """Steps after which an environment truncates its episodes; None if it does not say."""
    if env.spec is not None and env.spec.max_episode_steps is not None:
        return env.spec.max_episode_steps
    while isinstance(env, Wrapper):
        if isinstance(env, TimeLimit):
            return env._max_episode_steps
        env = env.env
    return None


_USUAL_RATE = 30.0
_TRIED_STEPS = 5


def _few_steps(env: AnyEnv) -> tuple[list[Any], bool]:
    """Observations of the beginning of an episode, and whether infos tell of success."""
    observation, _ = env.reset(seed=1)
    observations, says_success = [as_floats(observation)], False
    env.action_space.seed(1)
    for _ in range(_TRIED_STEPS):
        observation, _, over, cut, info = env.step(env.action_space.sample())
        observations.append(as_floats(observation))
        says_success |= success_in(info) is not None
        if over or cut:
            break
    return observations, says_success


def _require_equal(first: str, other: str, facts: Mapping[str, _Facts]) -> None:
    for what in ("observation", "action"):
        dims = [getattr(facts[task], f"{what}_dim") for task in (first, other)]
        if dims[0] != dims[1]:
            raise ConfigError(
                f"tasks must have equal spaces, but {first} has {dims[0]} numbers in {_an[what]}, "
                f"and {other} {dims[1]}; pad the shorter ones"
            )


_an = {"observation": "an observation", "action": "an action"}


def _horizon(tasks: Tasks, facts: Mapping[str, _Facts]) -> int:
    if tasks.horizon is not None:
        return tasks.horizon
    endless = [task for task, fact in facts.items() if fact.horizon is None]
    if endless:
        raise ConfigError(
            f"task {endless[0]} does not say how long its episodes are; return "
            "Tasks({...}, horizon=200), or wrap it in gymnasium.wrappers.TimeLimit"
        )
    return max(fact.horizon or 0 for fact in facts.values())


def _has_success(tasks: Tasks, facts: Mapping[str, _Facts]) -> bool:
    if tasks.success_return is not None or tasks.says_success:
        return True
    silent = [task for task, fact in facts.items() if not fact.says_success]
    if silent and len(silent) < len(facts):
        raise ConfigError(
            f'task {silent[0]} has no info["success"], and others have; add it, or return '
            "Tasks({...}, success_return=...)"
        )
    return not silent


def _success(tasks: Tasks) -> str:
    """What counts as success, for protocols."""
    if tasks.success_return is None:
        return Suite.success or ""
    if isinstance(tasks.success_return, Mapping):
        each = ", ".join(f"{least:g} ({name})" for name, least in tasks.success_return.items())
        return f"a return of at least {each}"
    return f"a return of at least {tasks.success_return:g}"
