"""A supervised run, from its configuration to the table of its results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from functools import cached_property
from pathlib import Path

import torch

from mtrl_ntk.experiment.checkpoints.checkpoint import CheckpointError
from mtrl_ntk.experiment.checkpoints.resume import Start
from mtrl_ntk.experiment.checkpoints.run_state import (
    RunState,
    Slot,
    Stateful,
    circumstances,
    log_position,
    make_archive,
)
from mtrl_ntk.experiment.config import SHARED, to_dict
from mtrl_ntk.experiment.devices import asked_threads, resolve_device, stream_seed
from mtrl_ntk.experiment.files.lock import RunLock
from mtrl_ntk.experiment.logs.logger import RunLogger
from mtrl_ntk.experiment.logs.metrics import MetricMeans, Rates
from mtrl_ntk.experiment.options.fields import options
from mtrl_ntk.experiment.options.values import counted
from mtrl_ntk.experiment.training.callbacks import Callbacks
from mtrl_ntk.experiment.training.disk_space import (
    MANIFEST_BYTES,
    DiskNeed,
    check_space,
    log_bytes,
)
from mtrl_ntk.experiment.training.health import Health
from mtrl_ntk.experiment.training.loop import Schedule, TrainingLoop
from mtrl_ntk.experiment.training.messages import command_to_go_on
from mtrl_ntk.experiment.training.run_statistics import Statistics
from mtrl_ntk.experiment.training.saver import Saver
from mtrl_ntk.experiment.training.signals import StopRequest
from mtrl_ntk.experiment.training.whole import Undertaking, carry_out
from mtrl_ntk.experiment.types import Counts
from mtrl_ntk.rl.envs import usable_cores
from mtrl_ntk.supervised.config import SupervisedConfig
from mtrl_ntk.supervised.datasets.dataset import Dataset
from mtrl_ntk.supervised.datasets.registry import DATASETS
from mtrl_ntk.supervised.scores import METRICS, Counters, Scores, log_kind
from mtrl_ntk.supervised.tasks import Task
from mtrl_ntk.supervised.training.callbacks import SupervisedCallback, SupervisedView
from mtrl_ntk.supervised.training.display import EpochLog, EpochProgress
from mtrl_ntk.supervised.training.evaluations import EpochEvaluations, Plateau
from mtrl_ntk.supervised.training.learner import Learner
from mtrl_ntk.supervised.training.plots import draw_predictions, plot_supervised
from mtrl_ntk.supervised.training.trainer import EpochClock, EpochTrainer, batches_of


def train(
    config: SupervisedConfig,
    *,
    callbacks: Sequence[SupervisedCallback] = (),
    quiet: bool = False,
) -> Scores:
    """Trains a network as configured, and leaves logs, checkpoints and plots in the run's folder.

    Args:
        config: The run's configuration.
        callbacks: Who is told of updates, evaluations and checkpoints.
        quiet: Whether nothing is shown; warnings are.

    Returns:
        The last evaluation.

    Raises:
        UserError: If the run cannot start as configured.
        Interrupted: If a signal has stopped the run, which is saved.
        RunFailed: If the end of the run could not be saved.
    """
    return carry_out(SupervisedRun(config, callbacks, quiet=quiet))


_FINGERPRINT = "fingerprint of the examples"


class SupervisedRun(Undertaking[Scores]):
    """A supervised run that is to be."""

    evaluation, counters = Scores, Counters
    config: SupervisedConfig
    _learner: Learner | None = None

    def __init__(
        self,
        config: SupervisedConfig,
        callbacks: Sequence[SupervisedCallback] = (),
        *,
        quiet: bool,
    ) -> None:
        super().__init__(config, quiet=quiet)
        self._callbacks = callbacks

    @cached_property
    def dataset(self) -> Dataset:
        """What it learns from, opened when that is first asked for."""
        return DATASETS[self.config.dataset](self.config.data)

    @cached_property
    def protocol(self) -> Mapping[str, object]:
        """What its numbers mean."""
        dataset, config, decides = self.dataset, self.config, to_dict(self.config, SHARED)
        chosen = [*options(config.data), *options(config.architecture)]
        sizes = [f"{dataset.size(split)} {split}" for split in dataset.splits]
        return {
            "data set": dataset.title,
            "examples": ", ".join(sizes),
            _FINGERPRINT: dataset.fingerprint,
            "evaluated on": f"{dataset.splits[-1]}, all examples, after the last epoch",
            "network": config.network,
            "epochs": config.length,
            **{each.name: decides[each.name] for each in chosen if each.name in decides},
        }

    def check(self, start: Start | None) -> None:
        """Refuses to go on with other data."""
        if start is None or start.found is None:
            return
        stated = start.found.checkpoint.metadata.get("protocol")
        before = stated.get(_FINGERPRINT) if isinstance(stated, dict) else None
        if before not in (None, self.protocol[_FINGERPRINT]):
            raise CheckpointError(
                f"{start.found.folder} has learnt from other data of {self.config.dataset} than "
                "are there now; start a new run in another --run-dir"
            )

    @property
    def more_info(self) -> Mapping[str, object]:
        """The metrics of each task."""
        return {METRICS: {task.name: [asdict(m) for m in task.metrics] for task in self.tasks}}

    @property
    def tasks(self) -> list[Task]:
        """The tasks that are learnt."""
        return [task for task in self.dataset.tasks if task.name in self.config.task_names]

    @property
    def packages(self) -> Sequence[str]:
        """None besides torch and NumPy."""
        return ()

    def make_loop(
        self, run_dir: Path, stack: ExitStack, start: Start | None, lock: RunLock | None = None
    ) -> TrainingLoop:
        """Makes all its parts."""
        config, epochs = self.config, self.config.epochs
        torch.set_num_threads(asked_threads(config) or usable_cores())
        learner, clock = self.make_learner(), self.make_clock()
        self._learner = learner
        check_space(self.disk_need(learner), run_dir)
        stop = stack.enter_context(StopRequest())
        if lock is not None:
            lock.take()
        names, kind = config.task_names, log_kind(config.task_names)
        logger = stack.enter_context(
            RunLogger(run_dir, names, log_position(start), to_dict(config), kind)
        )
        progress = stack.enter_context(self.make_progress())
        statistics = Statistics(
            clock=clock,
            metrics=MetricMeans(learner.device),
            rates=Rates("examples", "updates"),
            health=Health(names),
            eta=Estimate(clock.batches * config.length),
        )
        evaluations = EpochEvaluations(
            learner, self.dataset, epochs.batch_size, logger, progress, stop
        )
        trainer = EpochTrainer(config, self.dataset, learner, clock, statistics.metrics)
        state = self._state(learner, statistics, evaluations, logger, trainer.plateau)
        archive = make_archive(run_dir, epochs.keep_checkpoints, start)
        view = SupervisedView(config, run_dir, learner, clock)
        return TrainingLoop(
            config=config,
            schedule=Schedule(
                epochs.log_every, epochs.evaluate_every * clock.batches, epochs.checkpoint_every
            ),
            trainer=trainer,
            state=state,
            statistics=statistics,
            log=EpochLog(lambda: trainer.rate, statistics, logger, progress),
            logger=logger,
            evaluations=evaluations,
            saver=Saver(archive, state, clock, logger.outages),
            progress=progress,
            stop=stop,
            callbacks=Callbacks(self._callbacks, view),
            command_to_go_on=command_to_go_on(config.family.command, run_dir),
        )

    def make_learner(self) -> Learner:
        """Makes the network, whose parameters follow from the seed, and what learns."""
        device = resolve_device(self.config.device)
        with torch.random.fork_rng([]):
            torch.manual_seed(stream_seed(self.config.seed, "network"))
            return Learner(self.config, self.dataset, device)

    def make_clock(self) -> EpochClock:
        """Makes what counts its updates."""
        batch_size = self.config.epochs.batch_size
        return EpochClock(batches_of(self.config, self.dataset), batch_size)

    def disk_need(self, learner: Learner) -> DiskNeed:
        """Estimates what it will write."""
        epochs, updates = self.config.epochs, self.make_clock().batches * self.config.length
        parameters = sum(each.nbytes for each in learner.network.parameters())
        network = sum(each.nbytes for each in learner.state_dict().values())
        rows = updates // epochs.log_every + -(-self.config.length // epochs.evaluate_every)
        return DiskNeed(
            replay=0,
            checkpoint=network + 2 * parameters + MANIFEST_BYTES,  # Adam's two moments
            checkpoints=epochs.keep_checkpoints + 1,
            logs=log_bytes(rows, len(self.tasks)),
        )

    def _state(
        self,
        learner: Learner,
        statistics: Statistics,
        evaluations: EpochEvaluations,
        logger: RunLogger,
        plateau: Plateau,
    ) -> RunState[Learner]:
        balancer, clock = learner.balancer, statistics.clock
        parts: dict[str, Stateful] = {
            "counters": clock,
            "metrics": statistics.metrics,
            "rates": statistics.rates,
            "health": statistics.health,
            "optimizer": Slot(learner.optimizer_state, learner.load_optimizer_state),
            "method": Slot(balancer.state_dict, balancer.load_state_dict),
            "plateau": plateau,
            "evaluation": Slot(evaluations.state_of_last, evaluations.restore_last),
            "evaluated_at": Slot(lambda: evaluations.at, evaluations.restore_at),
            # Put back where the logs are opened.
            "log": Slot(lambda: logger.position(clock.step).to_json(), lambda _: None),
        }
        about = {
            "task_names": list(self.config.task_names),
            "protocol": self.protocol,
            "config": to_dict(self.config) | {"run_dir": None, "resume": None},
        }
        return RunState(learner, None, parts, about, circumstances(self.packages, learner.device))

    def announcement(self, loop: TrainingLoop) -> list[str]:
        """What is trained, on what."""
        config, learner = self.config, loop.state.agent
        parameters = sum(each.numel() for each in learner.network.parameters())
        return [
            f"{config.method} on {counted(len(config.task_names), 'task')} of {config.dataset}, "
            f"seed {config.seed}, on {learner.device.type}; {config.network} of {parameters:,} "
            f"parameters, {config.length} epochs of {self.make_clock().batches} updates"
        ]

    def make_progress(self) -> EpochProgress:
        """What shows it to a person."""
        total = self.make_clock().batches * self.config.length
        return EpochProgress(total, self.tasks, quiet=self.quiet)

    def draw_plots(self, run_dir: Path) -> list[Path]:
        """Draws pictures of its logs, and of what its network predicts, if it is there."""
        plots = plot_supervised(run_dir)
        if self._learner is not None:
            plots += draw_predictions(self._learner, self.dataset, run_dir)
        return plots

    def score(self, result: Scores) -> None:
        """Nothing: no evaluation ends it."""


class Estimate:
    """Estimates a run's duration once its first updates were timed; evaluations come on top.

    Args:
        total: Updates of the whole run.
    """

    _TIMED = 30

    def __init__(self, total: int) -> None:
        self._total = total
        self._first: tuple[int, float] | None = None

    def after(self, counters: Counts, paused: float = 0.0) -> float | None:
        """Takes note of an update; seconds of the whole run at the one after which it is told."""
        seconds: float = counters.seconds - paused  # type: ignore[attr-defined]
        self._first = self._first or (counters.step, seconds)
        if counters.step - self._first[0] != self._TIMED:
            return None
        pace = (seconds - self._first[1]) / self._TIMED
        return seconds + (self._total - counters.step) * pace
