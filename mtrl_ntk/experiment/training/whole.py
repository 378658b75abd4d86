"""A run of any kind, from its configuration to the table of its results."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Generic, TypeVar

import torch

from mtrl_ntk.errors import ConfigError, RunFailed
from mtrl_ntk.experiment.checkpoints.resume import Start, find_start, resumed_folder
from mtrl_ntk.experiment.checkpoints.run_state import counters_of, evaluation_of
from mtrl_ntk.experiment.config import run_folder, save
from mtrl_ntk.experiment.families import Configuration
from mtrl_ntk.experiment.files.layout import CHECKPOINT, CONFIG, RUN_INFO, new_folder, refuse_run
from mtrl_ntk.experiment.files.lock import RunLock
from mtrl_ntk.experiment.files.outages import Outages
from mtrl_ntk.experiment.logs.logger import RunLogger
from mtrl_ntk.experiment.logs.progress import Progress
from mtrl_ntk.experiment.logs.run_info import add_resumption, write_run_info
from mtrl_ntk.experiment.plots.run_plots import pixels
from mtrl_ntk.experiment.training.loop import TrainingLoop
from mtrl_ntk.experiment.training.messages import announce, what_is_unsaved
from mtrl_ntk.experiment.types import Counts, Evaluation

E = TypeVar("E", bound=Evaluation)


class Undertaking(ABC, Generic[E]):
    """A run that is to be, and what its kind has of its own.

    Args:
        config: The run's configuration.
        quiet: Whether nothing is shown; warnings are.

    Attributes:
        evaluation: What its evaluations are.
        counters: What it counts.
    """

    evaluation: type[E]
    counters: type[Counts]

    def __init__(self, config: Configuration, *, quiet: bool) -> None:
        self.config, self.quiet = config, quiet

    @property
    @abstractmethod
    def protocol(self) -> Mapping[str, object]:
        """What its numbers mean, for JSON."""

    @property
    @abstractmethod
    def packages(self) -> Sequence[str]:
        """Packages that decide about its numbers, besides torch and NumPy."""

    @property
    def more_info(self) -> Mapping[str, object]:
        """What else readers of its numbers need, for JSON."""
        return {}

    @abstractmethod
    def make_loop(
        self, run_dir: Path, stack: ExitStack, start: Start | None, lock: RunLock
    ) -> TrainingLoop:
        """Makes all its parts.

        Raises:
            UserError: If it cannot start as configured.
        """

    @abstractmethod
    def announcement(self, loop: TrainingLoop) -> list[str]:
        """What is said at the beginning, but for where it writes."""

    @abstractmethod
    def make_progress(self) -> Progress:
        """What shows it to a person."""

    @abstractmethod
    def draw_plots(self, run_dir: Path) -> list[Path]:
        """Draws pictures of its logs; returns where they are."""

    @abstractmethod
    def score(self, result: E) -> float | None:
        """What of an evaluation may end it early."""

    def check(self, start: Start | None) -> None:
        """Refuses what the run cannot go on from.

        Raises:
            UserError: If it is that.
        """

    def end_again(self, start: Start) -> None:
        """Does what the settings ask for at the end, of a run that has reached it before."""


def folder_of(config: Configuration) -> Path:
    """Where a run writes."""
    if config.resume is None:
        if config.run_dir is not None:
            refuse_run(config.run_dir)
        return run_folder(config, datetime.now().astimezone())
    return resumed_folder(config.resume, config.run_dir)


def carry_out(run: Undertaking[E]) -> E:
    """Trains as configured, and leaves logs, checkpoints and plots in the run's folder.

    Returns:
        The last evaluation.

    Raises:
        UserError: If the run cannot start as configured.
        Interrupted: If a signal has stopped the run, which is saved.
        RunFailed: If the end of the run could not be saved.
    """
    config = run.config
    with ExitStack() as stack:
        run_dir = folder_of(config)
        if config.run_dir is None and config.resume is None:
            run_dir = stack.enter_context(new_folder(run_dir, "--run-dir"))
        lock = stack.enter_context(RunLock(run_dir))
        start = find_start(config)
        if start and (finished := _finished(run, start)):
            return finished
        run.check(start)
        # Both are the whole process's, which may go on.
        stack.callback(torch.set_num_threads, torch.get_num_threads())
        stack.callback(torch.set_float32_matmul_precision, torch.get_float32_matmul_precision())
        loop = run.make_loop(run_dir, stack, start, lock)
        is_described = _describe(run, start, loop.logger)
        announce(loop.progress.message, run.announcement(loop), run_dir, start)
        loop.begin(start)
        result: E = loop.run()
        if not is_described:
            _describe(run, start, loop.logger)
        counters, plots = loop.statistics.clock.counters, _draw_plots(run, run_dir)
        loop.logger.log_images(counters, {f"plots/{path.stem}": pixels(path) for path in plots})
        _show_results(loop.progress, result, run_dir, loop.statistics.clock.seconds, plots)
    if unsaved := what_is_unsaved(loop.saver, loop.logger):
        raise RunFailed(f"the run has reached its end, {unsaved}")
    return result


def _describe(run: Undertaking[E], start: Start | None, logger: RunLogger) -> bool:
    """Writes the run's settings and what it runs with; returns whether that worked."""
    run_dir = logger.run_dir

    def write() -> None:
        save(run.config, run_dir / CONFIG)
        if start and start.found and start.continues:
            at = counters_of(start.found, run.counters)
            add_resumption(run_dir, run.protocol, at, run.packages, run.more_info)
        else:
            write_run_info(run_dir, run.protocol, run.packages, run.more_info)

    what, meanwhile = f"{CONFIG} and {RUN_INFO} into {run_dir}", "the end of the run tries again"
    return logger.outages.attempt(what, write, meanwhile)


def _finished(run: Undertaking[E], start: Start) -> E | None:
    """Shows the results of a run that has nothing left to do, if it is one.

    Raises:
        ConfigError: If the run is already beyond its end.
    """
    if start.found is None or not start.continues:
        return None
    counters, family = counters_of(start.found, run.counters), run.config.family
    result = evaluation_of(start.found, run.evaluation)
    count: int = getattr(counters, family.unit)
    if count > run.config.length:
        raise ConfigError(
            f"{family.length_option} is {run.config.length}; it must be at least "
            f"{count}, where the run is already"
        )
    metadata = start.found.checkpoint.metadata
    # The evaluation of the last step, of a run that was evaluated there.
    if result is None or not metadata.get("finished"):
        return None
    if not run.config.is_over(count, run.score(result)):
        return None
    progress = run.make_progress()
    run.end_again(start)
    progress.message(
        f"nothing left to do: the run has reached its end, after {counters.step} steps"
    )
    plots, seconds = _draw_plots(run, start.run_dir), float(metadata["counters"]["seconds"])
    _show_results(progress, result, start.run_dir, seconds, plots)
    return result


def _draw_plots(run: Undertaking[E], run_dir: Path) -> list[Path]:
    plots: list[Path] = []
    Outages().attempt(
        f"plots into {run_dir}",
        lambda: plots.extend(run.draw_plots(run_dir)),
        "they are left out",
    )
    return plots


def _show_results(
    progress: Progress, result: Evaluation, run_dir: Path, seconds: float, plots: Sequence[Path]
) -> None:
    progress.final_table(
        result, run_dir=run_dir, checkpoint=run_dir / CHECKPOINT, plots=plots, seconds=seconds
    )
