"""One step of training: act, update, step, remember."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from mtrl_ntk.experiment.options.sections import LoopConfig
from mtrl_ntk.experiment.training.clock import Clock
from mtrl_ntk.experiment.training.collector import Collector
from mtrl_ntk.experiment.training.learner import Learner
from mtrl_ntk.rl.envs import SimulationError, WorkerError


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

    failures: tuple[type[Exception], ...] = (SimulationError, WorkerError)
    """What ends a run from outside, so that it can go on another time."""

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

    def begin(self) -> None:
        """Starts the first episodes."""
        self.collector.reset()

    @property
    def is_stepping(self) -> bool:
        """Whether an interruption has left a step undone."""
        return self.collector.is_stepping

    def end_step(self) -> None:
        """Ends it."""
        self.collector.end_step()

    def next_batch(self) -> Mapping[str, Any]:
        """The transitions that the next update would draw."""
        replay, agent = self.learner.replay, self.learner.agent
        generator = torch.Generator(agent.device)
        generator.set_state(replay.generator.get_state())
        return replay.sample(agent.config.batch_size, generator)._asdict()

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
