"""Makes the parts of a run, and puts them together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

import torch

from mtrl_ntk.experiment.agents import make_agent, make_replay, policy_of
from mtrl_ntk.experiment.checkpoints.resume import Start
from mtrl_ntk.experiment.checkpoints.run_state import (
    RunState,
    Slot,
    Stateful,
    Stream,
    circumstances,
    log_position,
    make_archive,
    success,
)
from mtrl_ntk.experiment.config import RunConfig, to_dict
from mtrl_ntk.experiment.evaluation.episodes import make_evaluation_envs, protocol
from mtrl_ntk.experiment.files.lock import RunLock
from mtrl_ntk.experiment.logs.logger import RunLogger
from mtrl_ntk.experiment.logs.progress import Progress
from mtrl_ntk.experiment.training.callbacks import Callback, Callbacks, RunView
from mtrl_ntk.experiment.training.collector import Collector
from mtrl_ntk.experiment.training.disk_space import check_space, disk_need
from mtrl_ntk.experiment.training.evaluations import TrainingEvaluations
from mtrl_ntk.experiment.training.kernel_diagnoses import KernelDiagnoses
from mtrl_ntk.experiment.training.learner import Learner, recorder_for
from mtrl_ntk.experiment.training.loop import Schedule, TrainingLoop
from mtrl_ntk.experiment.training.messages import command_to_go_on
from mtrl_ntk.experiment.training.run_statistics import RunStatistics, make_statistics
from mtrl_ntk.experiment.training.saver import Saver
from mtrl_ntk.experiment.training.signals import StopRequest
from mtrl_ntk.experiment.training.trainer import Trainer
from mtrl_ntk.experiment.training.training_log import TrainingLog
from mtrl_ntk.experiment.types import PolicyFunction
from mtrl_ntk.rl.envs import MultiTaskVectorEnv, make_envs
from mtrl_ntk.rl.exploration import make_exploration
from mtrl_ntk.rl.host_graph import HostRecorder
from mtrl_ntk.rl.replay import MultiTaskReplayBuffer
from mtrl_ntk.rl.sac import MultiTaskSAC
from mtrl_ntk.rl.transitions import NStepReturns


def make_loop(
    config: RunConfig,
    run_dir: Path,
    device: torch.device,
    stack: ExitStack,
    start: Start | None = None,
    lock: RunLock | None = None,
    callbacks: Sequence[Callback] = (),
    quiet: bool = False,
) -> TrainingLoop:
    """Makes everything that a run consists of, at its beginning.

    Args:
        config: The run's configuration.
        run_dir: Where logs and the checkpoints go.
        device: Where the agent learns.
        stack: Closes what the run opens.
        start: What the run will go on from; None for a new one.
        lock: What keeps others out of the folder; taken before anything is written there.
        callbacks: Who is told what happens.
        quiet: Whether nothing is shown.

    Raises:
        UserError: If the run cannot start as configured.
    """
    names = config.env.task_names
    replay, agent = make_replay(config, len(names), device), make_agent(config, len(names), device)
    check_space(disk_need(config, agent, replay), run_dir)
    # So early, so that a stop is saved even if it is asked for while the environments start.
    stop = stack.enter_context(StopRequest())
    if lock is not None:
        lock.take()
    position = log_position(start)
    logger = stack.enter_context(RunLogger(run_dir, names, position, to_dict(config)))
    archive = make_archive(run_dir, config.loop.keep_checkpoints, start)
    at_most = config.evaluation.at_most
    progress = stack.enter_context(
        Progress(config.loop.total_steps, names, quiet=quiet, at_most=at_most)
    )
    statistics = make_statistics(config, names, device, progress.message)
    diagnoses = KernelDiagnoses(config, agent, replay, names, statistics, logger)
    trainer = make_trainer(config, agent, replay, statistics, stack, diagnoses.diagnose_if_due)
    evaluations = _evaluations(config, agent, statistics, logger, progress, stop, stack)
    parts = statistics.parts() | _parts(config.seed, trainer, evaluations, logger)
    state = _state(config, agent, replay, parts)
    schedule = Schedule(
        config.loop.log_every, config.evaluation.evaluate_every, config.loop.checkpoint_every
    )
    suite = config.env.task_suite
    own = ["--suite", suite.source] if suite.source else []
    return TrainingLoop(
        config=config,
        schedule=schedule,
        trainer=trainer,
        state=state,
        statistics=statistics,
        log=TrainingLog(statistics, logger, progress, agent.scheduled),
        logger=logger,
        evaluations=evaluations,
        saver=Saver(archive, state, statistics.clock, logger.outages),
        progress=progress,
        stop=stop,
        callbacks=Callbacks(callbacks, RunView(config, run_dir, agent, statistics.clock)),
        command_to_go_on=command_to_go_on(config.family.command, run_dir, *own),
        drop_replay=config.loop.drop_replay,
    )


def _evaluations(
    config: RunConfig,
    agent: MultiTaskSAC,
    statistics: RunStatistics,
    logger: RunLogger,
    progress: Progress,
    stop: StopRequest,
    stack: ExitStack,
) -> TrainingEvaluations:
    def envs() -> MultiTaskVectorEnv:
        made = make_evaluation_envs(
            config.env, config.evaluation, seed=config.seed, report=statistics.restarts
        )
        return stack.enter_context(closing(made))

    def policy() -> PolicyFunction:
        return policy_of(agent.average_actor)

    names = config.env.task_names
    return TrainingEvaluations(config, policy, names, envs, logger, progress, stop)


def _state(
    config: RunConfig,
    agent: MultiTaskSAC,
    replay: MultiTaskReplayBuffer,
    parts: Mapping[str, Stateful],
) -> RunState[MultiTaskSAC]:
    """All that the run goes on from, and what checkpoints say of it."""
    suite = config.env.task_suite
    about = {
        "dims": [suite.observation_dim, suite.action_dim],
        "task_names": list(config.env.task_names),
        "protocol": protocol(config.env, config.evaluation),
        "config": to_dict(replace(config, run_dir=None, resume=None)),
    }
    made_with = {**circumstances(suite.versioned, agent.device), "precision": agent.precision}
    return RunState(agent, replay, parts, about, made_with, success)


def make_trainer(
    config: RunConfig,
    agent: MultiTaskSAC,
    replay: MultiTaskReplayBuffer,
    statistics: RunStatistics,
    stack: ExitStack,
    after_update: Callable[[], object] = lambda: None,
) -> Trainer:
    """Makes what takes the steps of a run, with environments of its own.

    Args:
        config: The run's configuration.
        agent: Who acts and learns.
        replay: What it learns from.
        statistics: What is counted.
        stack: Closes the environments.
        after_update: Called after each update.
    """
    report = statistics.restarts
    envs = stack.enter_context(closing(make_envs(config.env, seed=config.seed, report=report)))
    loop = config.loop
    exploration = make_exploration(
        agent,
        envs.action_space,
        loop.warmstart_steps,
        hold_noise=loop.hold_noise,
        ez_greedy=loop.ez_greedy,
        ez_longest=loop.ez_longest,
        recorder=HostRecorder() if agent.device.type == "cpu" else None,
    )
    collector = Collector(
        envs,
        exploration,
        NStepReturns(replay, config.sac.n_steps, config.sac.gamma),
        agent.reward_scale,
        agent.features,
        statistics.health,
        statistics.episodes,
    )
    recorder = recorder_for(
        agent.device,
        type(agent.critic_balancer.weighting),
        cuda_graph=config.cuda_graph,
        compiled=config.compile,
    )
    learner = Learner(agent, replay, statistics.metrics, recorder=recorder, compiled=config.compile)
    return Trainer(config.loop, statistics.clock, collector, learner, after_update)


def _parts(
    seed: int, trainer: Trainer, evaluations: TrainingEvaluations, logger: RunLogger
) -> dict[str, Stateful]:
    """What a checkpoint keeps besides the statistics, by the names of the states."""
    clock, collector, learner = trainer.clock, trainer.collector, trainer.learner
    agent, replay = learner.agent, learner.replay
    return {
        "optimizers": Slot(agent.optimizer_state, agent.load_optimizer_state),
        "evaluation": Slot(evaluations.state_of_last, evaluations.restore_last),
        "evaluated_at": Slot(lambda: evaluations.at, evaluations.restore_at),
        "envs": Slot(collector.envs.state, collector.restore_envs),
        "observations": Slot(lambda: collector.observations, collector.compare),
        "exploration": collector.exploration,
        "returns": collector.returns,
        "reward_scale": collector.reward_scale,
        "features": collector.features,
        "agent_stream": Stream(agent.generator, seed, "agent", lambda: clock.step),
        "replay_stream": Stream(replay.generator, seed, "replay", lambda: clock.step),
        # Put back where the logs are opened.
        "log": Slot(lambda: logger.position(clock.step).to_json(), lambda _: None),
    }
