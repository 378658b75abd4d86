"""A few steps of a run, kept nowhere, to learn what all of it will cost."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass

import numpy as np
import psutil
import torch

from mtrl_ntk.experiment.agents import make_agent, policy_of
from mtrl_ntk.experiment.config import RunConfig
from mtrl_ntk.experiment.devices import learner_threads, resolve_device
from mtrl_ntk.experiment.evaluation.episodes import make_evaluation_envs
from mtrl_ntk.experiment.training.disk_space import disk_need
from mtrl_ntk.experiment.training.eta import evaluation_seconds
from mtrl_ntk.rl.envs import (
    MultiTaskVectorEnv,
    make_envs,
    resolved_workers,
)
from mtrl_ntk.rl.replay import MultiTaskReplayBuffer
from mtrl_ntk.rl.sac import MultiTaskSAC

_TIMED_S = 2.0
"""Time for which the steps of each kind are repeated."""
_FIRST_STEPS = 3
"""Steps that are not timed: memory is asked for, and caches are cold."""


@dataclass(frozen=True)
class Costs:
    """What a run takes: seconds, and bytes."""

    random_step_s: float
    """A vector step of the warm start."""
    step_s: float
    """A vector step with its updates, simulation and learning side by side."""
    evaluations_s: float
    """All evaluations, with episodes of full length."""
    total_s: float
    """All of it, from the step at which it goes on."""
    replay: int
    """Memory of the replay when it is full."""
    learner: int
    """Memory of networks, optimisers and gradients, those of each task included."""
    program: int
    """Memory of this process besides: libraries, activations, environments of its own."""
    workers: int
    """Memory that worker processes do not share with others."""
    num_workers: int
    """Worker processes, those of evaluations included."""
    on_gpu: bool
    """Whether replay and learner are in the memory of a GPU."""
    disk: int
    """Bytes that the run writes at most, without videos."""

    @property
    def memory(self) -> int:
        """Memory of the whole run, without that of a GPU."""
        on_cpu = 0 if self.on_gpu else self.replay + self.learner
        return on_cpu + self.program + self.workers


def rehearse(config: RunConfig, done: int = 0) -> Costs:
    """Takes a few steps of a run as configured, and scales up what they cost.

    Args:
        config: The run's configuration.
        done: Vector steps that it has taken already.
    """
    torch.set_num_threads(learner_threads(config))
    with ExitStack() as stack:
        envs = stack.enter_context(closing(make_envs(config.env, seed=config.seed)))
        stack.enter_context(
            closing(make_evaluation_envs(config.env, config.evaluation, seed=config.seed))
        )
        steps = _Steps(config, envs)
        random_step_s = seconds_each(steps.take_at_random, _TIMED_S)
        step_s = seconds_each(steps.take, _TIMED_S)
        return _scaled(config, done, steps, random_step_s, step_s)


def seconds_each(repeated: Callable[[], object], at_least: float) -> float:
    """Mean time of a call, over as many as take at least so many seconds."""
    for _ in range(_FIRST_STEPS):
        repeated()
    start, count = time.perf_counter(), 0
    while (passed := time.perf_counter() - start) < at_least or count == 0:
        repeated()
        count += 1
    return passed / count


def steps_seconds(config: RunConfig, done: int, random_step_s: float, step_s: float) -> float:
    """Seconds of all steps from one on, given those of a step of the warm start and a later one."""
    loop = config.loop
    at_random = max(loop.warmstart_steps - done, 0)
    return at_random * random_step_s + (loop.total_steps - done - at_random) * step_s


class _Steps:
    """The steps of the training loop, on transitions that mean nothing."""

    def __init__(self, config: RunConfig, envs: MultiTaskVectorEnv) -> None:
        self._config, self._envs = config, envs
        self.device = resolve_device(config.device)
        self.agent = make_agent(config, envs.num_tasks, self.device)
        self.replay = self._make_replay(config.sac.batch_size)
        self._observations, _ = envs.reset()
        self._due = 0.0

    def _make_replay(self, rows: int) -> MultiTaskReplayBuffer:
        tasks, suite = self._envs.num_tasks, self._envs.suite
        generator = torch.Generator(self.device).manual_seed(self._config.seed)
        replay = MultiTaskReplayBuffer(
            tasks,
            rows,
            suite.observation_dim,
            suite.action_dim,
            device=self.device,
            generator=generator,
        )
        draw = np.random.default_rng(self._config.seed).standard_normal
        observations = draw((tasks, rows, suite.observation_dim), np.float32)
        actions = np.tanh(draw((tasks, rows, suite.action_dim), np.float32))
        rewards = draw((tasks, rows), np.float32)
        replay.add(observations, actions, rewards, observations, np.zeros((tasks, rows), np.bool_))
        return replay

    def take_at_random(self) -> None:
        """A step of the warm start."""
        self._observations, *_ = self._envs.step(self._envs.action_space.sample())

    def take(self) -> None:
        """A step with its updates; learning and simulation overlap as in the training loop."""
        tasks = self._envs.num_tasks
        policy = policy_of(self.agent, deterministic=False)
        actions = policy(self._observations.reshape(tasks, self._envs.envs_per_task, -1))
        self._envs.step_async(actions.reshape(self._envs.num_envs, -1))
        self._due += self._config.loop.updates_per_step
        while self._due >= 1:
            self._due -= 1
            self.agent.update(self.replay.sample(self._config.sac.batch_size))
        self._observations, *_ = self._envs.step_wait()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def _scaled(
    config: RunConfig, done: int, steps: _Steps, random_step_s: float, step_s: float
) -> Costs:
    loop, env = config.loop, config.env
    num_tasks = len(env.task_names)
    evaluations_s = evaluation_seconds(
        config, num_tasks, random_step_s / (num_tasks * env.envs_per_task), done
    )
    learner = _memory_of(steps.agent)
    on_gpu = steps.device.type == "cuda"
    here = 0 if on_gpu else learner + steps.replay.nbytes
    # The program that calls this may have children of its own.
    children = psutil.Process().children(recursive=True) if resolved_workers(env) else []
    return Costs(
        random_step_s=random_step_s,
        step_s=step_s,
        evaluations_s=evaluations_s,
        total_s=steps_seconds(config, done, random_step_s, step_s) + evaluations_s,
        replay=steps.replay.nbytes // steps.replay.capacity * loop.replay_capacity,
        learner=learner,
        program=max(psutil.Process().memory_info().rss - here, 0),
        workers=sum(child.memory_full_info().uss for child in children),
        num_workers=2 * resolved_workers(env) + bool(resolved_workers(env)),
        on_gpu=on_gpu,
        disk=disk_need(config, steps.agent, steps.replay).most,
    )


def _memory_of(agent: MultiTaskSAC) -> int:
    """Memory of an agent with its optimisers and gradients, in bytes."""
    tensors = agent.state_dict() | agent.optimizer_state()
    balancers = (agent.critic_balancer, agent.actor_balancer)
    return sum(t.nbytes for t in tensors.values()) + sum(b.nbytes for b in balancers)
