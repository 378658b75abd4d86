"""Environments that are stepped one after the other, and where they write what they give.

A *bundle* steps some of the environments and writes what they give into a record array with one
row per environment. In-process stepping is one bundle over an ordinary array; each worker holds a
bundle over its rows of a shared one. The rows do not depend on who writes them.

Imports no torch: a worker is a small process that starts quickly.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mtrl_ntk.errors import RunFailed
from mtrl_ntk.rl.envs.task_env import Step, TaskEnv
from mtrl_ntk.rl.suites.registry import DEFAULT_SUITE
from mtrl_ntk.rl.suites.suite import EpisodeRules, Suite

Arguments = tuple[tuple[Any, ...], Mapping[str, Any]]
"""Those of a call."""


class SimulationError(RunFailed, RuntimeError):
    """A simulation raised an exception."""


@dataclass(frozen=True)
class BundleSpec:
    """What environments to make; row ``task * copies + copy`` is a copy of a task."""

    tasks: tuple[str, ...]
    copies: int
    rules: EpisodeRules
    seed: int
    suite: Suite = DEFAULT_SUITE
    picture_size: int = 0

    @property
    def num_envs(self) -> int:
        """Rows in all."""
        return len(self.tasks) * self.copies

    @property
    def record(self) -> np.dtype[np.void]:
        """One environment's row: the action in, the results of the step out.

        ``observation`` is that of the reset where the step ended the episode; ``final_observation``
        is always the step's own. The other fields are the step's own too, but for ``busy``: it is
        set while the environment is at work, so that a process that dies leaves behind which one
        it was.
        """
        fields: list[Any] = [
            ("action", np.float32, self.suite.action_dim),
            ("observation", np.float32, self.suite.observation_dim),
            ("final_observation", np.float32, self.suite.observation_dim),
            ("reward", np.float32),
            ("success", np.float32),
            ("episode_return", np.float64),
            ("episode_length", np.int64),
            ("terminated", np.bool_),
            ("truncated", np.bool_),
            ("valid", np.bool_),
            ("busy", np.bool_),
        ]
        return np.dtype(fields, align=True)

    @property
    def history(self) -> np.dtype[np.void]:
        """Where one environment stands.

        These are its resets since seeding, its steps since the last, and their actions: all that
        there is to know, see ``TaskEnv.go_to``.
        """
        actions = (self.suite.max_horizon, self.suite.action_dim)
        fields: list[Any] = [
            ("episodes", np.int64),
            ("length", np.int64),
            ("actions", np.float32, actions),
        ]
        return np.dtype(fields)


class Stepper(Protocol):
    """What a vector environment asks of a bundle or of a pool of workers.

    The vector environment keeps ``histories [num_envs]`` up to date. Those that are read are always
    the ones before a command, and the actions of a step stand in them when it begins.
    """

    records: NDArray[Any]
    histories: NDArray[Any]

    def reset(self, seed: int | None = None, rows: Collection[int] = ()) -> None:
        """Starts new episodes: in all rows, or in some of them without a seed."""

    def go_to(self, seed: int) -> None:
        """Puts all rows where their histories say, under a seed."""

    def step_async(self, skipped: Collection[int] = ()) -> None:
        """Begins a step with the rows' actions, but for those that stay as they are."""

    def step_wait(self) -> None:
        """Returns when the rows hold the step's results."""

    def call(self, method: str, arguments: Mapping[int, Arguments]) -> dict[int, Any]:
        """Calls a method of ``TaskEnv`` in some rows; returns what each returns."""

    def close(self) -> None:
        """Frees everything; may be called twice."""


class EnvBundle:
    """Environments that are stepped one after the other.

    Args:
        spec: All environments of the vector environment.
        records: ``[num_envs]`` array of the spec's ``record``; a new one if None.
        histories: ``[num_envs]`` array of its ``history``, which is only read; a new one if None.
        rows: The rows to step; all if None.
        made_progress: Called after each environment that was made, reset or led to where it was,
            which for many of them takes long.
    """

    def __init__(
        self,
        spec: BundleSpec,
        records: NDArray[Any] | None = None,
        histories: NDArray[Any] | None = None,
        rows: Sequence[int] | None = None,
        made_progress: Callable[[], object] = lambda: None,
    ) -> None:
        self.records = np.zeros(spec.num_envs, spec.record) if records is None else records
        self.histories = np.zeros(spec.num_envs, spec.history) if histories is None else histories
        self._fields = {name: self.records[name] for name in spec.record.names or ()}
        self._made_progress = made_progress
        self._seed = spec.seed
        self._goals: dict[str, NDArray[np.float64]] = {}
        self._skipped: Collection[int] = ()
        rows = range(spec.num_envs) if rows is None else rows
        self.envs = {row: self._make_env(spec, row) for row in rows}

    def _make_env(self, spec: BundleSpec, row: int) -> TaskEnv:
        task, copy = divmod(row, spec.copies)
        name = spec.tasks[task]
        env = TaskEnv(
            name,
            spec.rules,
            seed=spec.seed,
            copy=copy,
            copies=spec.copies,
            goals=self._goals.get(name),
            suite=spec.suite,
            picture_size=spec.picture_size,
        )
        self._goals[name] = env.goals
        self._made_progress()
        return env

    def reset(self, seed: int | None = None, rows: Collection[int] = ()) -> None:
        """Starts new episodes, in all rows if none are named.

        A given seed first sets the goals and restarts all streams.
        """
        if seed is not None:
            self._reseed(seed)
        for row in self.envs:
            if row in rows or not rows:
                self._work(self._reset, row)
                self._made_progress()

    def _reset(self, row: int) -> None:
        self._fields["observation"][row] = self.envs[row].reset()

    def go_to(self, seed: int, given_up: Collection[int] = ()) -> None:
        """Steps every environment from its last reset to where its history says.

        Rows that are given up go to the beginning of their next episode.
        """
        self._reseed(seed)
        for row in self.envs:
            self._work(self._begin_next if row in given_up else self._go_through_history, row)
            self._made_progress()

    def _go_through_history(self, row: int) -> None:
        episodes, length, actions = self.histories[row]
        self._fields["observation"][row] = self.envs[row].go_to(int(episodes), actions[:length])

    def _begin_next(self, row: int) -> None:
        episodes, _, actions = self.histories[row]
        self._fields["observation"][row] = self.envs[row].go_to(int(episodes) + 1, actions[:0])

    def _reseed(self, seed: int) -> None:
        if seed != self._seed:
            self._seed, self._goals = seed, {}
        for env in self.envs.values():
            env.reseed(seed, self._goals.get(env.name))
            self._goals[env.name] = env.goals

    def step_async(self, skipped: Collection[int] = ()) -> None:
        """Takes note of which rows stay as they are; the step is taken by ``step_wait``."""
        self._skipped = skipped

    def step_wait(self) -> None:
        """Steps every environment with its row's action, and resets those whose episode ended."""
        for row in self.envs:
            if row not in self._skipped:
                self._work(self._step, row)

    def call(self, method: str, arguments: Mapping[int, Arguments]) -> dict[int, Any]:
        """Calls a method in those of some rows that are here."""
        return {
            row: getattr(self.envs[row], method)(*args, **kwargs)
            for row, (args, kwargs) in arguments.items()
            if row in self.envs
        }

    def _step(self, row: int) -> None:
        env = self.envs[row]
        step = env.step(self._fields["action"][row])
        self._write(row, step)
        ended = step.terminated or step.truncated
        self._fields["observation"][row] = env.reset() if ended else step.observation

    def _work(self, work: Callable[[int], None], row: int) -> None:
        """Lets an environment work, and says which one it was when that fails."""
        busy = self._fields["busy"]
        busy[row] = True
        try:
            work(row)
        except Exception as error:
            raise SimulationError(self._describe(error, row)) from error
        busy[row] = False

    def _describe(self, error: Exception, row: int) -> str:
        origin = traceback.extract_tb(error.__traceback__)[-1]
        return (
            f"the simulation of {self.envs[row].name} (environment {row}) failed at step "
            f"{self.histories[row]['length'] + 1} of an episode: {type(error).__name__}: {error} "
            f"({Path(origin.filename).name}:{origin.lineno})"
        )

    def _write(self, row: int, step: Step) -> None:
        fields = self._fields
        fields["final_observation"][row] = step.observation
        fields["reward"][row] = step.reward
        fields["success"][row] = step.success
        fields["episode_return"][row] = step.episode_return
        fields["episode_length"][row] = step.episode_length
        fields["terminated"][row] = step.terminated
        fields["truncated"][row] = step.truncated
        fields["valid"][row] = step.valid

    def close(self) -> None:
        """Closes the environments."""
        for env in self.envs.values():
            env.close()
        self.envs = {}
