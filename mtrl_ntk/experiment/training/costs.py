"""What all of a run will cost, learnt from a few steps of its loop that are kept nowhere."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace

import psutil
import torch

from mtrl_ntk.experiment.agents import make_agent, make_replay
from mtrl_ntk.experiment.config import RunConfig
from mtrl_ntk.experiment.devices import learner_threads, resolve_device
from mtrl_ntk.experiment.evaluation.episodes import make_evaluation_envs
from mtrl_ntk.experiment.training.assembly import make_trainer
from mtrl_ntk.experiment.training.disk_space import disk_need
from mtrl_ntk.experiment.training.eta import evaluation_seconds
from mtrl_ntk.experiment.training.run_statistics import make_statistics
from mtrl_ntk.experiment.training.trainer import Trainer
from mtrl_ntk.rl.envs import (
    resolved_workers,
)
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
    start_s: float
    """The start of the process, up to the first step."""
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
    threads: int
    """Threads of PyTorch."""
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
    # What this process has done so far, a run's does as well: it imports.
    process_started = psutil.Process().create_time()
    with ExitStack() as stack:
        stack.callback(torch.set_num_threads, torch.get_num_threads())
        torch.set_num_threads(learner_threads(config))
        trainer = _trainer(config, stack)
        stack.enter_context(
            closing(make_evaluation_envs(config.env, config.evaluation, seed=config.seed))
        )

        def take_at_random() -> None:
            trainer.clock.step = 0  # the first step of the warm start, again
            trainer.take_step()

        def take() -> None:
            trainer.take_step()
            if trainer.learner.agent.device.type == "cuda":
                torch.cuda.synchronize()

        trainer.collector.reset()
        start_s = time.time() - process_started
        random_step_s = seconds_each(take_at_random, _TIMED_S)
        for _ in range(config.sac.n_steps):  # until there is something to learn from
            take_at_random()
        trainer.clock.step = config.sac.n_steps
        step_s = seconds_each(take, _TIMED_S)
        return _scaled(config, done, trainer, start_s, random_step_s, step_s)


def _trainer(config: RunConfig, stack: ExitStack) -> Trainer:
    """What takes the steps of a run, with a short warm start and a small replay."""
    sac = config.sac
    loop = replace(config.loop, warmstart_steps=sac.n_steps, replay_capacity=sac.batch_size)
    config, device = replace(config, loop=loop), resolve_device(config.device)
    names = config.env.task_names
    agent, replay = make_agent(config, len(names), device), make_replay(config, len(names), device)
    statistics = make_statistics(config, names, device, say=warnings.warn)
    return make_trainer(config, agent, replay, statistics, stack)


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


def _scaled(
    config: RunConfig,
    done: int,
    trainer: Trainer,
    start_s: float,
    random_step_s: float,
    step_s: float,
) -> Costs:
    loop, env = config.loop, config.env
    agent, replay = trainer.learner.agent, trainer.learner.replay
    num_tasks = replay.num_tasks
    evaluations_s = evaluation_seconds(
        config, num_tasks, random_step_s / (num_tasks * env.envs_per_task), done
    )
    learner = _memory_of(agent)
    on_gpu = agent.device.type == "cuda"
    here = 0 if on_gpu else learner + replay.nbytes
    # The program that calls this may have children of its own.
    children = psutil.Process().children(recursive=True) if resolved_workers(env) else []
    return Costs(
        random_step_s=random_step_s,
        step_s=step_s,
        evaluations_s=evaluations_s,
        start_s=start_s,
        total_s=start_s + steps_seconds(config, done, random_step_s, step_s) + evaluations_s,
        replay=replay.nbytes // replay.capacity * loop.replay_capacity,
        learner=learner,
        program=max(psutil.Process().memory_info().rss - here, 0),
        workers=sum(child.memory_full_info().uss for child in children),
        threads=torch.get_num_threads(),
        num_workers=2 * resolved_workers(env) + bool(resolved_workers(env)),
        on_gpu=on_gpu,
        disk=disk_need(config, agent, replay).most,
    )


def _memory_of(agent: MultiTaskSAC) -> int:
    """Memory of an agent with its optimisers and gradients, in bytes."""
    tensors = agent.state_dict() | agent.optimizer_state()
    balancers = (agent.critic_balancer, agent.actor_balancer)
    return sum(t.nbytes for t in tensors.values()) + sum(b.nbytes for b in balancers)
