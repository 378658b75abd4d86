"""The tasks of a suite as one vector environment."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import ArrayLike, NDArray

from mtrl_ntk.errors import ConfigError
from mtrl_ntk.rl.envs.bundle import Arguments, BundleSpec, EnvBundle, Stepper
from mtrl_ntk.rl.envs.config import EnvConfig, resolved_workers
from mtrl_ntk.rl.envs.reward_scaling import RewardNormalization, make_reward_scaler
from mtrl_ntk.rl.envs.workers import RestartRules, WorkerPool
from mtrl_ntk.rl.seeds import seed_of
from mtrl_ntk.rl.suites.registry import DEFAULT_SUITE, load_suite
from mtrl_ntk.rl.suites.suite import EpisodeRules, GoalMode, Suite

StepResults = tuple[
    NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]
]
"""Observations, rewards, terminations, truncations and infos of a step."""


class MultiTaskVectorEnv(VectorEnv[NDArray[np.float32], NDArray[np.float32], NDArray[Any]]):
    """Several copies of several tasks, stepped together under Gymnasium's vector interface.

    Environment ``task * envs_per_task + copy`` is a copy of a task, so that for any result ``x``
    ``x.reshape(num_tasks, envs_per_task, ...)`` is its view by tasks. Results are the same bit for
    bit whatever the number of workers.

    An ended episode's environment is reset within the same step. The observation that the step
    returns for it is then that of the new episode; the next observation to learn from is
    ``infos["final_obs"]``, present when any episode ended. In its other rows it equals the returned
    observations, so a learner stores::

        next_observations = infos.get("final_obs", observations)

    and bootstraps through truncations, that is wherever ``terminations`` is False. Rows where
    ``infos["valid"]`` is False must not be stored.

    With ``AutoresetMode.NEXT_STEP``, which some of Gymnasium's wrappers ask for, the step that ends
    an episode returns its last observation; the next one ignores that environment's action and
    returns the first observation of the new episode, with a reward of zero and ``valid`` False.

    Args:
        tasks: Task names, in the order of the task axis.
        seed: Non-negative seed of all goals and draws.
        envs_per_task: Copies of each task.
        horizon: Environment steps after which an episode is truncated; by default as many as it
            may have.
        reward_version: Which of the suite's reward functions counts; Meta-World has ``v1`` and
            ``v2``.
        reward_normalization: ``none``, or ``running_variance`` to scale the rewards that steps
            return; see ``RunningVarianceScaler``. The episodes' returns stay unscaled.
        goal_mode: ``resampled``, ``fixed`` or ``in_order``; see ``EpisodeRules``.
        terminate_on_success: Whether an episode terminates at its first success.
        workers: Processes that step the environments; 0 steps them in this one.
        rules: When a worker counts as lost, and how often one may be replaced before a
            ``WorkerError`` is raised.
        report: Told of each worker that is replaced, in one line.
        lean: Whether to use lean simulations, which are bit-identical to the stock ones. With a
            library for which that is not proven, a warning says that stock ones are used.
        suite: What the tasks belong to.
        autoreset_mode: When an environment whose episode has ended is reset.
        render_mode: ``rgb_array`` for pictures by :meth:`render`.
        picture_size: Their width and height.

    Attributes:
        suite: What the tasks belong to.
        task_names: Names of the tasks, in the order of the task axis.
        num_tasks: Number of tasks.
        envs_per_task: Copies of each task.
        num_envs: ``num_tasks * envs_per_task``.
        reward_scaler: What scales the rewards, with all its state; None where nothing does.
    """

    def __init__(
        self,
        tasks: Iterable[str],
        *,
        seed: int,
        envs_per_task: int = 1,
        horizon: int | None = None,
        reward_version: str = "v2",
        reward_normalization: RewardNormalization = "none",
        goal_mode: GoalMode = "resampled",
        terminate_on_success: bool = False,
        workers: int = 0,
        rules: RestartRules | None = None,
        report: Callable[[str], object] = warnings.warn,
        lean: bool = True,
        suite: Suite = DEFAULT_SUITE,
        autoreset_mode: AutoresetMode | str = AutoresetMode.SAME_STEP,
        render_mode: str | None = None,
        picture_size: int = 240,
    ) -> None:
        # Until the workers run there is nothing for the base class's __del__ to close.
        self.closed = True
        if envs_per_task < 1:
            raise ConfigError(f"envs_per_task must be at least 1, got {envs_per_task}")
        seed = seed_of(seed)
        if workers < 0:
            raise ConfigError(f"workers must be at least 0, got {workers}")
        self.suite, self.task_names = suite, suite.task_names(tasks=tasks)
        self.num_tasks = len(self.task_names)
        self.envs_per_task = envs_per_task
        self.num_envs = self.num_tasks * envs_per_task
        # Here and not in the workers, so that one small object in one process is all its state.
        self.reward_scaler = make_reward_scaler(reward_normalization, self.num_envs)
        self.render_mode = _known_render_mode(render_mode)
        self._set_spaces(seed, autoreset_mode)
        self._seed = seed
        self._horizon = horizon = suite.max_horizon if horizon is None else horizon
        episodes = EpisodeRules(horizon, reward_version, goal_mode, terminate_on_success, lean)
        suite.check(episodes)
        # Asked here, so that one process warns and not each worker.
        size = 0 if render_mode is None else picture_size
        rules_here = suite.settle(episodes)
        spec = BundleSpec(self.task_names, envs_per_task, rules_here, seed, suite, size)
        self._stepper: Stepper = (
            WorkerPool(spec, workers, rules, report) if workers else EnvBundle(spec)
        )
        # Kept by this process, so that it outlives the workers.
        self._histories = self._stepper.histories
        self._success = np.float32(math.nan if suite.success is None else 1.0)
        # Which environments the next step resets, and with what observation.
        self._due = self._skipped = np.zeros(self.num_envs, np.bool_)
        self._is_reset = False
        self._is_stepping = False
        self.closed = False

    def _set_spaces(self, seed: int, autoreset_mode: AutoresetMode | str) -> None:
        mode = AutoresetMode(autoreset_mode)
        if mode == AutoresetMode.DISABLED:
            raise ConfigError("autoreset_mode is Disabled; it must be SameStep or NextStep")
        self._waits = mode == AutoresetMode.NEXT_STEP
        self.metadata = {
            "autoreset_mode": mode,
            "render_modes": ["rgb_array"],
            "render_fps": round(self.suite.steps_per_second),
        }
        observation, action = (self.suite.observation_dim,), (self.suite.action_dim,)
        self.single_observation_space = Box(-np.inf, np.inf, observation, np.float32)
        self.single_action_space = Box(-1.0, 1.0, action, np.float32)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self.action_space.seed(seed)

    def reset(
        self,
        *,
        seed: int | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Starts new episodes, everywhere unless told otherwise.

        Args:
            seed: Draws the goals anew and restarts every stream and the scale of the rewards; None
                continues them.
            options: May hold Gymnasium's ``reset_mask [num_envs]`` bool: the environments to reset.
                The episodes of the others go on.

        Returns:
            Observations ``[num_envs, observation]``, of those that are not reset their present
            ones, and no infos.

        Raises:
            ConfigError: If there is no such seed; nothing has changed then.
            ValueError: If the options cannot be followed; nothing has changed then.
        """
        self._check_idle()
        seed = None if seed is None else seed_of(seed)
        mask = self._reset_mask(options or {}, seed)
        if seed is not None:
            self._seed = seed
            self._histories["episodes"] = 0
            self.action_space.seed(seed)
            if self.reward_scaler is not None:
                self.reward_scaler.restart()
        self._stepper.reset(seed, () if mask.all() else np.flatnonzero(mask).tolist())
        self._histories["episodes"] += mask
        self._histories["length"][mask] = 0
        self._due &= ~mask
        self._is_reset = True
        return self._stepper.records["observation"].copy(), {}

    def _reset_mask(self, options: Mapping[str, Any], seed: int | None) -> NDArray[np.bool_]:
        """Which environments to reset."""
        unknown = options.keys() - {"reset_mask"}
        if unknown:
            raise ValueError(f"reset knows the option reset_mask alone, not {sorted(unknown)}")
        if "reset_mask" not in options:
            return np.ones(self.num_envs, np.bool_)
        mask = np.asarray(options["reset_mask"])
        if mask.dtype != np.bool_ or mask.shape != (self.num_envs,) or not mask.any():
            raise ValueError(
                f"reset_mask is {mask}; it must be {self.num_envs} bools, not all false"
            )
        if seed is not None:
            raise ValueError("a seed is that of all environments: give it without a reset_mask")
        if not self._is_reset:
            raise ValueError("the first reset is of all environments: leave the reset_mask out")
        return mask

    def step(self, actions: ArrayLike, resting: NDArray[np.bool_] | None = None) -> StepResults:
        """Steps all environments; ``step_async`` and ``step_wait`` in one."""
        self.step_async(actions, resting)
        return self.step_wait()

    def step_async(self, actions: ArrayLike, resting: NDArray[np.bool_] | None = None) -> None:
        """Begins a step with ``actions [num_envs, action]``, clipped to [-1, 1]; returns at once.

        Workers step while the caller does other things; without workers ``step_wait`` does it all.

        Args:
            actions: The actions.
            resting: Environments ``[num_envs]`` that stay as they are, with results of zero that
                are not valid; none when left out. A :meth:`state` of this step forgets them.
        """
        if not self._is_reset:
            raise RuntimeError("step before the first reset()")
        self._check_idle()
        actions = np.asarray(actions, dtype=np.float32)
        shape = (self.num_envs, self.suite.action_dim)
        if actions.shape != shape:
            raise ValueError(f"actions must have shape {shape}, got {actions.shape}")
        self._stepper.records["action"] = actions
        lengths = self._histories["length"]
        self._histories["actions"][np.arange(self.num_envs), lengths] = actions
        self._skipped = self._due if resting is None else self._due | resting
        self._stepper.step_async(np.flatnonzero(self._skipped).tolist())
        self._is_stepping = True

    def step_wait(self) -> StepResults:
        """Ends the step that ``step_async`` began.

        Returns:
            Observations ``[num_envs, observation]``; rewards, terminations and truncations
            ``[num_envs]``; and infos, which always hold

            - ``success [num_envs]`` float32: whether the episode has succeeded so far, and for an
              ended episode whether it succeeded; NaN where nothing counts as success;
            - ``valid [num_envs]`` bool: False where the action or the simulation was broken,

            and when any episode ended, unless its reset waits for the next step,

            - ``final_obs [num_envs, observation]``: the step's own next observations;
            - ``final_info``: ``success`` and ``episode`` with the undiscounted return ``r`` and the
              length ``l`` in steps, zero where not ended;
            - for each of these keys the mask ``_key [num_envs]`` of the environments that ended.
        """
        if not self._is_stepping:
            raise RuntimeError("step_wait() without step_async()")
        self._stepper.step_wait()
        self._is_stepping = False
        records = self._stepper.records
        if self._skipped.any():
            for name in ("reward", "success", "terminated", "truncated", "valid"):
                records[name][self._skipped] = 0
        infos: dict[str, Any] = {
            "success": records["success"] * self._success,
            "valid": records["valid"].copy(),
        }
        ended = records["terminated"] | records["truncated"]
        self._histories["episodes"] += ended
        after = self._histories["length"] + ~self._skipped
        self._histories["length"] = np.where(ended, 0, after)
        observations = records["observation"].copy()
        if self._waits:
            self._due = ended
            observations[ended] = records["final_observation"][ended]
        elif ended.any():
            infos |= _final_infos(records, ended, infos["success"])
        rewards = records["reward"].copy()
        if self.reward_scaler is not None:
            rewards = self.reward_scaler.scale(rewards, records["valid"])
        return (
            observations,
            rewards,
            records["terminated"].copy(),
            records["truncated"].copy(),
            infos,
        )

    def call(self, name: str, *args: Any, **kwargs: Any) -> tuple[Any, ...]:  # noqa: ANN401
        """Calls a method of every environment, or returns an attribute of each.

        It is that of the environment that is simulated, such as a user's own, or else that of
        ``TaskEnv``: ``name``, ``goals``, ``goal_index``, ``rules``, ``simulation``.
        """
        return self._call("call", [((name, *args), kwargs)] * self.num_envs)

    def get_attr(self, name: str) -> tuple[Any, ...]:
        """An attribute of every environment, as :meth:`call` finds it."""
        return self._call("get_attr", [((name,), {})] * self.num_envs)

    def set_attr(self, name: str, values: Any) -> None:  # noqa: ANN401 - as Gymnasium has it
        """Sets an attribute of every environment.

        It is no part of :meth:`state`: where environments are made anew, for a lost worker or a
        resumed run, they have what they are made with.

        Args:
            name: The attribute.
            values: A list or tuple of one for each environment, or one for all.
        """
        each = values if isinstance(values, list | tuple) else [values] * self.num_envs
        if len(each) != self.num_envs:
            raise ValueError(f"there are {len(each)} values for {self.num_envs} environments")
        self._call("set_attr", [((name, value), {}) for value in each])

    def _call(self, method: str, arguments: Sequence[Arguments]) -> tuple[Any, ...]:
        self._check_idle()
        results = self._stepper.call(method, dict(enumerate(arguments)))
        return tuple(results[row] for row in range(self.num_envs))

    def render(self) -> tuple[NDArray[np.uint8], ...] | None:
        """A picture of every environment; None without a ``render_mode``."""
        return (
            None if self.render_mode is None else self._call("render", [((), {})] * self.num_envs)
        )

    def __enter__(self) -> MultiTaskVectorEnv:
        """Is closed at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes it."""
        self.close()

    @property
    def pending_actions(self) -> NDArray[np.float32] | None:
        """Actions ``[num_envs, action]`` of a step that was begun and has not ended."""
        return self._stepper.records["action"].copy() if self._is_stepping else None

    @property
    def restarts(self) -> int:
        """How often a lost worker was replaced."""
        return self._stepper.restarts if isinstance(self._stepper, WorkerPool) else 0

    def state(self) -> dict[str, Any]:
        """Where all environments and streams stand, for :meth:`restore`; to be asked after a reset.

        In the middle of a step, also of one that has failed, that is where they stood before it,
        and its actions.

        Returns:
            Arrays ``[num_envs, ...]``, and numbers and text that JSON can hold.
        """
        lengths = self._histories["length"].copy()
        longest = int(lengths.max())
        taken = np.arange(longest) < lengths[:, None]
        actions = self._histories["actions"][:, :longest]
        scaler = self.reward_scaler
        return {
            "seed": self._seed,
            "episodes": self._histories["episodes"].copy(),
            "lengths": lengths,
            "actions": np.where(taken[..., None], actions, np.float32(0.0)),
            "pending_actions": self.pending_actions,
            "action_space": self.action_space.np_random.bit_generator.state,
            "reward_scaler": scaler and {"mean": scaler.mean, "variance": scaler.variance},
            "due": self._due if self._waits else None,
        }

    def restore(self, state: Mapping[str, Any]) -> NDArray[np.float32]:
        """Goes to where equal environments stood, whatever their number of workers.

        Takes as long as an episode. The step in whose middle they were is begun again.

        Args:
            state: What their :meth:`state` returned.

        Returns:
            Observations ``[num_envs, observation]``: on an equal machine those of that moment, bit
            for bit.

        Raises:
            ValueError: If the state cannot be that of such environments.
        """
        self._check_idle()
        histories = np.zeros_like(self._histories)
        histories["episodes"] = _array(state, "episodes", np.int64, (self.num_envs,))
        histories["length"] = _array(state, "lengths", np.int64, (self.num_envs,))
        lengths = histories["length"]
        if lengths.min() < 0 or lengths.max() >= self._horizon or histories["episodes"].min() < 1:
            raise ValueError("an episode has an impossible number of steps")
        shape = (self.num_envs, int(lengths.max()), self.suite.action_dim)
        histories["actions"][:, : shape[1]] = _array(state, "actions", np.float32, shape)
        pending = state.get("pending_actions")
        if pending is not None:
            pending = _array(state, "pending_actions", np.float32, (self.num_envs, shape[2]))
        seed = seed_of(state["seed"])
        if self.reward_scaler is not None:
            scale = [
                _array(state["reward_scaler"], name, np.float64, (self.num_envs,))
                for name in ("mean", "variance")
            ]
            self.reward_scaler.mean, self.reward_scaler.variance = scale
        due = state.get("due") if self._waits else None
        self._due = np.zeros(self.num_envs, np.bool_)
        if due is not None:
            self._due = _array(state, "due", np.bool_, (self.num_envs,))
        self._seed = seed
        self._histories[...] = histories
        self._stepper.go_to(self._seed)
        self._is_reset = True
        self.action_space.np_random.bit_generator.state = state["action_space"]
        # Where a reset is due, that of the reset: the last of the episode before is gone.
        observations = self._stepper.records["observation"].copy()
        if pending is not None:
            self.step_async(pending)
        return observations

    def _check_idle(self) -> None:
        if self.closed:
            raise RuntimeError("the environments are closed")
        if self._is_stepping:
            raise RuntimeError("step_async() still waits for its step_wait()")

    def close_extras(self, **kwargs: Any) -> None:  # noqa: ANN401, ARG002
        """Closes the environments and ends the workers, also in the middle of a step."""
        self._stepper.close()


def _known_render_mode(mode: str | None) -> str | None:
    if mode not in (None, "rgb_array"):
        raise ConfigError(f"render_mode is {mode!r}; it must be rgb_array, or left out")
    return mode


def _array(
    state: Mapping[str, Any], name: str, dtype: type[np.generic], shape: tuple[int, ...]
) -> NDArray[Any]:
    array = np.asarray(state[name])
    if array.dtype != dtype or array.shape != shape:
        raise ValueError(f"{name} is {array.dtype} {array.shape}, not {np.dtype(dtype)} {shape}")
    return array


def _final_infos(
    records: NDArray[Any], ended: NDArray[np.bool_], success: NDArray[np.float32]
) -> dict[str, Any]:
    episode = {
        "r": np.where(ended, records["episode_return"], 0.0),
        "_r": ended,
        "l": np.where(ended, records["episode_length"], 0),
        "_l": ended,
    }
    return {
        "final_obs": records["final_observation"].copy(),
        "_final_obs": ended,
        "final_info": {
            "success": np.where(ended, success, np.float32(0.0)),
            "_success": ended,
            "episode": episode,
            "_episode": ended,
        },
        "_final_info": ended,
    }


def make_envs(config: EnvConfig, *, seed: int, **overrides: Any) -> MultiTaskVectorEnv:  # noqa: ANN401
    """Makes the environments that a configuration describes.

    Args:
        config: The user's options.
        seed: Non-negative seed of all goals and draws.
        **overrides: Arguments of ``MultiTaskVectorEnv`` to use instead of the configuration's, such
            as ``goal_mode="in_order"`` and ``terminate_on_success=True`` for evaluation.
    """
    arguments: dict[str, Any] = {
        "suite": config.task_suite,
        "tasks": config.task_names,
        "envs_per_task": config.envs_per_task,
        "horizon": config.horizon,
        "reward_version": config.reward_version,
        "reward_normalization": config.reward_normalization,
        "goal_mode": config.goal_mode,
        "workers": resolved_workers(config),
        "lean": config.lean,
        "rules": RestartRules(config.worker_timeout, config.worker_restarts, config.restart_window),
    } | overrides
    return MultiTaskVectorEnv(seed=seed, **arguments)


def make_vector_env(
    num_envs: int = 1,
    benchmark: str | None = None,
    suite: str = DEFAULT_SUITE.name,
    seed: int = 0,
    **arguments: Any,  # noqa: ANN401 - as there
) -> MultiTaskVectorEnv:
    """Makes the tasks of a benchmark or a suite, as ``gymnasium.make_vec`` asks for them.

    Args:
        num_envs: A multiple of the number of tasks, copies of which follow one another; 1, the
            default of Gymnasium, stands for one copy of each.
        benchmark: Benchmark of the suite; its first by default.
        suite: A name of ``SUITES``, or ``module:function``.
        seed: Non-negative seed of all goals and draws.
        **arguments: Further ones of ``MultiTaskVectorEnv``.

    Raises:
        ConfigError: If there can be no such environments.
    """
    tasks_of = load_suite(suite)
    names = tasks_of.task_names(benchmark, arguments.pop("tasks", None))
    copies, rest = divmod(num_envs, len(names))
    if rest and num_envs != 1:
        raise ConfigError(
            f"num_envs is {num_envs}; it must be a multiple of the {len(names)} tasks"
        )
    return MultiTaskVectorEnv(
        names, seed=seed, envs_per_task=max(copies, 1), suite=tasks_of, **arguments
    )
