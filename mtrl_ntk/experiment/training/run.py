"""A run of training, from its configuration to the table of its results."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path

import torch

from mtrl_ntk.errors import ConfigError, RunFailed
from mtrl_ntk.experiment.checkpoints.resume import Start, find_start, require_replay, resumed_folder
from mtrl_ntk.experiment.checkpoints.run_state import counters_of, evaluation_of, make_archive
from mtrl_ntk.experiment.config import RunConfig, run_folder, save, with_suite
from mtrl_ntk.experiment.devices import learner_threads, resolve_device
from mtrl_ntk.experiment.evaluation.episodes import protocol
from mtrl_ntk.experiment.files.layout import (
    CHECKPOINT,
    CONFIG,
    RUN_INFO,
    new_folder,
    refuse_run,
)
from mtrl_ntk.experiment.files.lock import RunLock
from mtrl_ntk.experiment.files.outages import Outages
from mtrl_ntk.experiment.logs.logger import RunLogger
from mtrl_ntk.experiment.logs.progress import Progress
from mtrl_ntk.experiment.logs.run_info import add_resumption, write_run_info
from mtrl_ntk.experiment.plots.run_plots import pixels, plot_run
from mtrl_ntk.experiment.training.assembly import make_loop
from mtrl_ntk.experiment.training.callbacks import Callback
from mtrl_ntk.experiment.training.messages import announce, what_is_unsaved
from mtrl_ntk.experiment.types import EvaluationResult
from mtrl_ntk.rl.heap import keep_freed_memory
from mtrl_ntk.rl.precision import set_products
from mtrl_ntk.rl.suites.own.suite import Origin
from mtrl_ntk.rl.suites.registry import add_tasks
from mtrl_ntk.rl.suites.suite import Suite


def train(
    config: RunConfig,
    *,
    suite: Suite | Origin | None = None,
    callbacks: Sequence[Callback] = (),
    quiet: bool = False,
) -> EvaluationResult:
    """Trains an agent as configured, and leaves logs, checkpoints and plots in the run's folder.

    Args:
        config: The run's configuration.
        suite: Tasks of your own, a function that returns them, or what ``add_tasks`` or
            ``load_suite`` made of such; instead of the tasks of the configuration.
        callbacks: Who is told of steps, evaluations and checkpoints.
        quiet: Whether nothing is shown; warnings are.

    Returns:
        The last evaluation.

    Raises:
        UserError: If the run cannot start as configured.
        Interrupted: If a signal has stopped the run, which is saved.
        RunFailed: If the end of the run could not be saved.
    """
    if suite is not None:
        config = with_suite(config, suite if isinstance(suite, Suite) else add_tasks(suite))
    with ExitStack() as stack:
        run_dir = folder_of(config)
        if config.run_dir is None and config.resume is None:
            run_dir = stack.enter_context(new_folder(run_dir, "--run-dir"))
        lock = stack.enter_context(RunLock(run_dir))
        start = find_start(config)
        if start and (result := _finished(config, start, quiet)):
            return result
        require_replay(start)
        # Both are the whole process's, which may go on.
        stack.callback(torch.set_num_threads, torch.get_num_threads())
        stack.callback(torch.set_float32_matmul_precision, torch.get_float32_matmul_precision())
        device = resolve_device(config.device)
        set_products(config.sac.precision, device)
        keep_freed_memory()
        torch.set_num_threads(learner_threads(config))
        loop = make_loop(config, run_dir, device, stack, start, lock, callbacks, quiet)
        is_described = _describe(config, start, loop.logger)
        say, state = loop.progress.message, loop.state
        announce(say, config, state.agent, state.replay, run_dir, start)
        loop.begin(start)
        result = loop.run()
        if not is_described:
            _describe(config, start, loop.logger)
        counters, plots = loop.statistics.clock.counters, _draw_plots(run_dir)
        loop.logger.log_images(counters, {f"plots/{path.stem}": pixels(path) for path in plots})
        _show_results(loop.progress, result, run_dir, counters.seconds, plots)
    if unsaved := what_is_unsaved(loop.saver, loop.logger):
        raise RunFailed(f"the run has reached its end, {unsaved}")
    return result


def _describe(config: RunConfig, start: Start | None, logger: RunLogger) -> bool:
    """Writes the run's settings and what it runs with; returns whether that worked."""
    run_dir, suite = logger.run_dir, config.env.task_suite

    def write() -> None:
        save(config, run_dir / CONFIG)
        stated = protocol(config.env, config.evaluation)
        if start and start.found and start.continues:
            add_resumption(run_dir, stated, counters_of(start.found).vector_steps, suite)
        else:
            write_run_info(run_dir, stated, suite)

    what, meanwhile = f"{CONFIG} and {RUN_INFO} into {run_dir}", "the end of the run tries again"
    return logger.outages.attempt(what, write, meanwhile)


def folder_of(config: RunConfig) -> Path:
    """Where a run writes."""
    if config.resume is None:
        if config.run_dir is not None:
            refuse_run(config.run_dir)
        return run_folder(config, datetime.now().astimezone())
    return resumed_folder(config.resume, config.run_dir)


def _finished(config: RunConfig, start: Start, quiet: bool) -> EvaluationResult | None:
    """Shows the results of a run that has nothing left to do, if it is one.

    Raises:
        ConfigError: If the run is already beyond its end.
    """
    if start.found is None or not start.continues:
        return None
    counters, result = counters_of(start.found), evaluation_of(start.found)
    step = counters.vector_steps
    if step > config.loop.total_steps:
        raise ConfigError(
            f"total_steps is {config.loop.total_steps}; it must be at least "
            f"{step}, where the run is already"
        )
    metadata = start.found.checkpoint.metadata
    # The evaluation of the last step, of a run that was evaluated there.
    if result is None or not metadata.get("finished"):
        return None
    if not config.is_over(step, result.mean_success_rate):
        return None
    progress = Progress(config.loop.total_steps, result.task_names, quiet=quiet)
    if config.loop.drop_replay:
        make_archive(start.run_dir, config.loop.keep_checkpoints, start).drop_replay()
    progress.message(f"nothing left to do: the run has reached its end, after {step} steps")
    _show_results(progress, result, start.run_dir, counters.seconds, _draw_plots(start.run_dir))
    return result


def _draw_plots(run_dir: Path) -> list[Path]:
    plots: list[Path] = []
    Outages().attempt(
        f"plots into {run_dir}", lambda: plots.extend(plot_run(run_dir)), "they are left out"
    )
    return plots


def _show_results(
    progress: Progress,
    result: EvaluationResult,
    run_dir: Path,
    seconds: float,
    plots: Sequence[Path],
) -> None:
    progress.final_table(
        result,
        run_dir=run_dir,
        checkpoint=run_dir / CHECKPOINT,
        plots=plots,
        seconds=seconds,
    )
