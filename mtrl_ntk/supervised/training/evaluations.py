"""Evaluations of a network while it learns."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from mtrl_ntk.experiment.logs.logger import RunLogger
from mtrl_ntk.experiment.logs.progress import Progress
from mtrl_ntk.experiment.training.loop import EvaluationStopped
from mtrl_ntk.experiment.training.signals import StopRequest
from mtrl_ntk.supervised.datasets.dataset import Dataset, Examples
from mtrl_ntk.supervised.scores import LOSS, Counters, Scores
from mtrl_ntk.supervised.training.learner import Learner


def batches(dataset: Dataset, split: str, batch_size: int) -> Iterator[Examples]:
    """The examples of a split in their order, the last batch as large as it is."""
    size = dataset.size(split)
    for begin in range(0, size, batch_size):
        yield dataset.batch(split, range(begin, min(begin + batch_size, size)))


def measure(learner: Learner, found: Iterator[Examples], stop: StopRequest | None = None) -> Scores:
    """The metrics of a network on examples.

    Args:
        learner: Who has the network.
        found: The examples.
        stop: What ends it early.

    Raises:
        EvaluationStopped: If a stop is asked for before the end.
    """
    network, tallies = learner.network, {task.name: task.tally() for task in learner.tasks}
    sums, count = dict.fromkeys(tallies, 0.0), 0
    network.eval()
    with torch.no_grad():
        for examples in found:
            if stop is not None and stop.received is not None:
                raise EvaluationStopped
            on_device = examples.to(learner.device)
            outputs, targets = network(on_device.inputs), on_device.targets
            for task in learner.tasks:
                output, target = outputs[task.name], targets[task.name]
                tallies[task.name].add(output, target)
                sums[task.name] += float(task.losses(output, target).sum(dtype=torch.float64))
            count += len(examples)
    return Scores(
        {name: {LOSS: sums[name] / count, **tally.result()} for name, tally in tallies.items()}
    )


class Plateau:
    """Counts the steps of a learning rate that falls where the validation loss does not.

    As ``torch.optim.lr_scheduler.ReduceLROnPlateau``: a loss has to be lower by a ten-thousandth.

    Args:
        patience: Epochs that it may fail to be so before a step.

    Attributes:
        steps: Steps so far.
    """

    def __init__(self, patience: int) -> None:
        self.steps, self._waited = 0, 0
        self._patience, self._best = patience, math.inf

    def take(self, loss: float) -> None:
        """Takes note of an epoch's loss."""
        if loss < self._best * (1 - 1e-4):
            self._best, self._waited = loss, 0
        else:
            self._waited += 1
        if self._waited > self._patience:
            self.steps, self._waited = self.steps + 1, 0

    def state(self) -> dict[str, Any]:
        """What it goes on from."""
        best = None if math.isinf(self._best) else self._best
        return {"steps": self.steps, "waited": self._waited, "best": best}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes on from a :meth:`state`."""
        self.steps, self._waited = int(state.get("steps", 0)), int(state.get("waited", 0))
        best = state.get("best")
        self._best = math.inf if best is None else float(best)


class EpochEvaluations:
    """Evaluates a network on the last split of its data set, and logs it.

    Args:
        learner: Who has the network.
        dataset: What it is measured on.
        batch_size: Examples at a time.
        logger: Where results go.
        progress: What shows them.
        stop: What ends an evaluation early.

    Attributes:
        last: The last evaluation; None before the first.
        at: Updates at which it was; below zero before the first.
    """

    why_enough = ""

    def __init__(
        self,
        learner: Learner,
        dataset: Dataset,
        batch_size: int,
        logger: RunLogger,
        progress: Progress,
        stop: StopRequest,
    ) -> None:
        self.last: Scores | None = None
        self.at = -1
        self._learner, self._dataset, self._batch_size = learner, dataset, batch_size
        self._logger, self._progress, self._stop = logger, progress, stop

    def evaluate(self, counters: Counters) -> Scores:
        """Evaluates.

        Raises:
            EvaluationStopped: If a stop is asked for before the end.
        """
        split = self._dataset.splits[-1]
        found = batches(self._dataset, split, self._batch_size)
        self.last = measure(self._learner, found, self._stop)
        self.at = counters.step
        self._logger.log_evaluation(counters, self.last)
        self._progress.evaluated(self.last)
        return self.last

    def success_at(self, step: int) -> None:
        """Nothing: no evaluation ends the run."""

    def state_of_last(self) -> dict[str, Any] | None:
        """The last evaluation, for JSON."""
        return None if self.last is None else self.last.to_json()

    def restore_last(self, state: Mapping[str, Any] | None) -> None:
        """Goes on after an evaluation that :meth:`state_of_last` has described."""
        self.last = None if state is None else Scores.from_json(state)

    def restore_at(self, state: int) -> None:
        """Goes on after an evaluation at so many updates."""
        self.at = int(state)
