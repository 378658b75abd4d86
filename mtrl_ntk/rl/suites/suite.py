"""What a set of tasks is: their names, dimensions and goals, and how one of them is simulated.

Imports no torch, as nothing does that a worker needs.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any, Literal, NamedTuple, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from mtrl_ntk.errors import ConfigError
from mtrl_ntk.rl.suites.features import FeatureMap

GoalMode = Literal["resampled", "fixed", "in_order"]


@dataclass(frozen=True)
class EpisodeRules:
    """What an episode is: its length, reward, goal and end.

    Attributes:
        horizon: Environment steps after which an episode is truncated.
        reward_version: Which of a suite's reward functions counts, where it has several.
        goal_mode: ``resampled`` draws one of the task's goals at each reset; ``fixed`` keeps one
            per seed and task, the same for all copies; ``in_order`` lets copy c of C copies run
            goals c, c + C, c + 2C, ... and begin again after the last.
        terminate_on_success: Whether an episode terminates at its first success.
        lean: Whether to save time in the simulation's Python, which changes no bit of the results.
    """

    horizon: int = 500
    reward_version: str = "v2"
    goal_mode: GoalMode = "resampled"
    terminate_on_success: bool = False
    lean: bool = True

    def __post_init__(self) -> None:
        """Raises a ConfigError that names a bad value."""
        _check_known(self.goal_mode, get_args(GoalMode), "goal_mode")


class Outcome(NamedTuple):
    """What one step of a simulation gave."""

    observation: NDArray[np.floating[Any]]
    """Next observation ``[observation_dim]``."""
    reward: float
    success: bool
    """Whether the task is solved at this step."""
    is_over: bool = False
    """Whether the task itself ends here, so that nothing comes after."""
    is_cut: bool = False
    """Whether the episode ends here though the task goes on, before its horizon."""
    is_stable: bool = True
    """False: the simulation has broken down, and the step must not be learnt from."""


class Camera(Protocol):
    """Takes pictures of a simulation, the right way up."""

    def picture(self) -> NDArray[np.uint8]:
        """What it sees now, ``[height, width, 3]``."""

    def close(self) -> None:
        """Frees what drawing needs."""


class Simulation(Protocol):
    """One task, without what episodes, seeds and broken steps ask for.

    A reset depends on its goal alone, and a step on what happened since the reset. On that rests
    that a run goes on where it was: the steps of the running episode are taken again.
    """

    def draw_goals(self, rng: np.random.Generator) -> NDArray[np.float64]:
        """Draws the goals of the task, ``[goals_per_task, dim]``; whatever tells episodes apart.

        It is followed by a reset.
        """

    def reset(self, goal: NDArray[np.float64]) -> NDArray[np.floating[Any]]:
        """Starts an episode with ``goal [dim]``; returns the first observation."""

    def step(self, action: NDArray[np.float32]) -> Outcome:
        """Takes a step with ``action [action_dim]``, which lies in [-1, 1]."""

    def camera(self, name: str, size: int) -> Camera:
        """A camera whose pictures are so many pixels wide and high."""

    def close(self) -> None:
        """Frees what the simulation holds."""


def _as_asked(rules: EpisodeRules) -> EpisodeRules:
    return rules


@dataclass(frozen=True)
class Suite:
    """A set of tasks with equal spaces.

    It travels to worker processes as a pickle, so ``simulate`` has to be a function of a module.

    Attributes:
        name: Its name in ``SUITES``.
        title: Its name in protocols.
        observation_dim: Features of an observation.
        action_dim: Entries of an action, each from -1 to 1.
        tasks: Names of all tasks. The random streams of a task depend on its place.
        benchmarks: Names of the tasks of each benchmark; the first benchmark is the default.
        goals_per_task: Goals that a simulation draws for its task.
        max_horizon: Environment steps that an episode may have.
        simulate: Makes the simulation of a task for episodes under given rules.
        settle: What becomes of rules on this machine; asked once, by the process that trains.
        reward_versions: Reward functions among which rules may choose; empty for none.
        packages: Packages that decide about the numbers, the one that brings the tasks first.
        features: What networks may see besides raw and normalised observations, by name.
        step_costs: Time that a step takes, in any unit, by task; those that are left out take the
            mean.
        steps_per_second: Environment steps in a second of the world that is simulated.
        cameras: What videos may be taken with.
        defaults: What options take of the suite, by the option's name, where it is not the first.
        success: What counts as success, for protocols; None where nothing does, and mean returns
            are what is compared.
        needs_opengl: Whether there are no pictures without an OpenGL.
        source: How a command line names the suite, if it is none of the package's.
        remark: What a user should know before a run starts.
    """

    name: str
    title: str
    observation_dim: int
    action_dim: int
    tasks: tuple[str, ...]
    benchmarks: Mapping[str, tuple[str, ...]]
    goals_per_task: int
    max_horizon: int
    simulate: Callable[[str, EpisodeRules], Simulation]
    settle: Callable[[EpisodeRules], EpisodeRules] = _as_asked
    reward_versions: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    features: Mapping[str, FeatureMap] = field(default_factory=dict, compare=False)
    step_costs: Mapping[str, float] = field(default_factory=dict)
    steps_per_second: float = 30.0
    cameras: tuple[str, ...] = ()
    defaults: Mapping[str, str] = field(default_factory=dict, compare=False)
    success: str | None = "at any step; the episode ends with it"
    needs_opengl: bool = False
    source: str = ""
    remark: str | None = None

    def choices(self, option: str) -> tuple[str, ...]:
        """What an option may be that is the suite's to say; nothing where it has no such thing."""
        possible: dict[str, Iterable[str]] = {
            "benchmark": self.benchmarks,
            "reward_version": self.reward_versions,
            "features": ("raw", "running", *self.features),
            "video_camera": self.cameras,
        }
        return tuple(possible[option])

    def check_choice(self, option: str, value: str) -> None:
        """Checks that such an option may be so.

        Raises:
            ConfigError: If it may not.
        """
        possible = self.choices(option)
        if value not in (possible or ("",)):
            needed = f"one of {', '.join(possible)}" if possible else "left out, as there is none"
            raise ConfigError(f"{option} is {value!r}; it must be {needed}")

    def default(self, option: str) -> str:
        """What such an option is where nothing is asked for."""
        return self.defaults.get(option, next(iter(self.choices(option)), ""))

    @property
    def versioned(self) -> tuple[str, ...]:
        """Packages besides torch and NumPy whose versions decide about the numbers."""
        return (*self.packages, "gymnasium")

    @property
    def description(self) -> str:
        """What the tasks are, for protocols: the title, and the version of what brings them."""
        versions = [f"{package} {metadata.version(package)}" for package in self.packages[:1]]
        return ", ".join([self.title, *versions])

    def task_names(
        self, benchmark: str | None = None, tasks: Iterable[str] | None = None
    ) -> tuple[str, ...]:
        """Names of the tasks to train: the benchmark's, or the given ones after a check.

        Args:
            benchmark: Key of ``benchmarks``, None for the first; not read when ``tasks`` is given.
            tasks: Names in the order wanted; None for the benchmark's.

        Raises:
            ConfigError: If a name is unknown or occurs twice, or if ``tasks`` is empty.
        """
        if tasks is None:
            benchmark = next(iter(self.benchmarks)) if benchmark is None else benchmark
            _check_known(benchmark, self.benchmarks, "benchmark")
            return self.benchmarks[benchmark]
        names = tuple(tasks)
        if not names:
            example = self.task_names()[0]
            raise ConfigError(f"tasks is empty: give at least one task name, such as {example}")
        for name in names:
            _check_known(name, self.tasks, "task")
            if names.count(name) > 1:
                raise ConfigError(
                    f"task {name!r} is given twice; use envs_per_task for more copies"
                )
        return names

    def check(self, rules: EpisodeRules) -> None:
        """Checks that episodes may be so.

        Raises:
            ConfigError: If they may not.
        """
        if not 1 <= rules.horizon <= self.max_horizon:
            raise ConfigError(f"horizon must be 1 to {self.max_horizon} steps, got {rules.horizon}")
        if self.reward_versions:
            _check_known(rules.reward_version, self.reward_versions, "reward_version")

    def step_cost(self, task: str) -> float:
        """Time that a step of a task takes, relative to those of the others."""
        mean = sum(self.step_costs.values()) / len(self.step_costs) if self.step_costs else 1.0
        return self.step_costs.get(task, mean)


def without_version(name: str) -> str:
    """A task's name without the version that names end with by Gymnasium's convention."""
    return re.sub(r"-v\d+$", "", name)


def _check_known(name: str, possible: Iterable[str], kind: str) -> None:
    possible = tuple(possible)
    if name in possible:
        return
    close = difflib.get_close_matches(name, possible, n=1, cutoff=0.4)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise ConfigError(f"unknown {kind} {name!r}; {hint}possible: {', '.join(possible)}")
