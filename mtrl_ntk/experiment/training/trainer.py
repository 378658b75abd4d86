"""One step of training: act, update, step, remember."""

from __future__ import annotations

from collections.abc import Callable

from mtrl_ntk.experiment.options.sections import LoopConfig
from mtrl_ntk.experiment.training.clock import Clock
from mtrl_ntk.experiment.training.collector import Collector
from mtrl_ntk.experiment.training.learner import Learner


class Trainer:
    """Takes a run's steps; what is logged, saved and evaluated between them is not its business.

    The agent learns while the environments step, from transitions up to the step before: the lag of
    one step is the same whether there are workers or not.

    Args:
        config: How many updates a step has, and from which step on.
        clock: Counts both.
        collector: Acts, and remembers.
        learner: Learns.
        after_update: Called after each update.
    """

    def __init__(
        self,
        config: LoopConfig,
        clock: Clock,
        collector: Collector,
        learner: Learner,
        after_update: Callable[[], object] = lambda: None,
    ) -> None:
        self.clock, self.collector, self.learner = clock, collector, learner
        self._config, self._after_update = config, after_update

    def take_step(self) -> None:
        """Takes a vector step and the updates that are due with it."""
        self.clock.step += 1
        self.collector.begin_step(self.clock.step)
        self.update()
        self.collector.end_step()

    def update(self) -> None:
        """Takes the updates that are due."""
        due = self._config.updates_by(self.clock.step)
        while self.clock.updates < due:
            self.clock.updates += 1
            self.learner.update()
            self._after_update()
