"""A run of reinforcement learning, from its configuration to the table of its results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import torch

from mtrl_ntk.experiment.checkpoints.resume import Start, require_replay
from mtrl_ntk.experiment.checkpoints.run_state import make_archive
from mtrl_ntk.experiment.config import RunConfig, with_suite
from mtrl_ntk.experiment.devices import learner_threads, resolve_device
from mtrl_ntk.experiment.evaluation.episodes import protocol
from mtrl_ntk.experiment.files.lock import RunLock
from mtrl_ntk.experiment.logs.progress import Progress
from mtrl_ntk.experiment.options.values import counted
from mtrl_ntk.experiment.plots.run_plots import plot_run
from mtrl_ntk.experiment.training.assembly import make_loop
from mtrl_ntk.experiment.training.callbacks import Callback
from mtrl_ntk.experiment.training.loop import TrainingLoop
from mtrl_ntk.experiment.training.whole import Undertaking, carry_out
from mtrl_ntk.experiment.types import Counters, EvaluationResult
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
    return carry_out(_Training(config, callbacks, quiet=quiet))


class _Training(Undertaking[EvaluationResult]):
    """A run of reinforcement learning."""

    evaluation, counters = EvaluationResult, Counters
    config: RunConfig

    def __init__(self, config: RunConfig, callbacks: Sequence[Callback], *, quiet: bool) -> None:
        super().__init__(config, quiet=quiet)
        self._callbacks = callbacks

    @property
    def protocol(self) -> Mapping[str, object]:
        return protocol(self.config.env, self.config.evaluation)

    @property
    def packages(self) -> Sequence[str]:
        return self.config.env.task_suite.versioned

    def check(self, start: Start | None) -> None:
        require_replay(start)

    def make_loop(
        self, run_dir: Path, stack: ExitStack, start: Start | None, lock: RunLock
    ) -> TrainingLoop:
        config = self.config
        device = resolve_device(config.device)
        set_products(config.sac.precision, device)
        keep_freed_memory()
        torch.set_num_threads(learner_threads(config))
        return make_loop(config, run_dir, device, stack, start, lock, self._callbacks, self.quiet)

    def announcement(self, loop: TrainingLoop) -> list[str]:
        config, agent, replay = self.config, loop.state.agent, loop.state.replay
        assert replay is not None
        tasks = counted(replay.num_tasks, "task")
        where = agent.device.type
        if agent.precision != "float32":
            where += f" in {agent.precision}"
        what = (
            f"{config.method} on {tasks}, seed {config.seed}, on {where}; replay of "
            f"{config.loop.replay_capacity} transitions per task in {replay.nbytes / 1e6:.0f} MB"
        )
        remark = config.env.task_suite.remark
        return [what, remark] if remark else [what]

    def make_progress(self) -> Progress:
        return Progress(self.config.length, self.config.env.task_names, quiet=self.quiet)

    def draw_plots(self, run_dir: Path) -> list[Path]:
        return plot_run(run_dir)

    def score(self, result: EvaluationResult) -> float:
        return result.mean_success_rate

    def end_again(self, start: Start) -> None:
        if self.config.loop.drop_replay:
            make_archive(start.run_dir, self.config.loop.keep_checkpoints, start).drop_replay()
