"""The steps of a run: which examples each update learns from, and what it draws at random."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from mtrl_ntk.errors import ConfigError, UserError
from mtrl_ntk.experiment.devices import stream_seed
from mtrl_ntk.experiment.logs.metrics import MetricMeans
from mtrl_ntk.experiment.training.clock import RunClock
from mtrl_ntk.supervised.config import SupervisedConfig
from mtrl_ntk.supervised.datasets.dataset import Dataset, Examples
from mtrl_ntk.supervised.scores import LOSS, Counters
from mtrl_ntk.supervised.training.evaluations import Plateau, batches, measure
from mtrl_ntk.supervised.training.learner import Learner


class EpochClock(RunClock):
    """Counts updates, epochs, examples and seconds.

    Args:
        batches: Updates of an epoch.
        batch_size: Examples of an update.
    """

    def __init__(self, batches: int, batch_size: int) -> None:
        super().__init__()
        self.batches, self._batch_size = batches, batch_size

    @property
    def counters(self) -> Counters:
        """How far the run is."""
        examples = self.step * self._batch_size
        return Counters(self.step, self.step // self.batches, examples, self.seconds)


def batches_of(config: SupervisedConfig, dataset: Dataset) -> int:
    """Updates of an epoch.

    Raises:
        ConfigError: If there are too few examples for one.
    """
    size, batch_size = dataset.size(dataset.splits[0]), config.epochs.batch_size
    if size < batch_size:
        raise ConfigError(
            f"batch_size is {batch_size}; it must be at most {size}, the examples of "
            f"{config.dataset} to learn from"
        )
    return size // batch_size


class EpochTrainer:
    """Takes updates, each on the next batch of its epoch.

    All that is random of an epoch, and of an update, follows from the seed and its number: a run
    that goes on anywhere needs no stream for it.

    Args:
        config: The run's configuration.
        dataset: What is learnt from.
        learner: Learns.
        clock: Counts the updates.
        metrics: Takes what there is to log.

    Raises:
        ConfigError: If there is nothing that its schedule needs.

    Attributes:
        plateau: Steps of the learning rate, where its schedule is that.
    """

    failures: tuple[type[Exception], ...] = ()
    is_stepping = False

    def __init__(
        self,
        config: SupervisedConfig,
        dataset: Dataset,
        learner: Learner,
        clock: EpochClock,
        metrics: MetricMeans,
    ) -> None:
        self._config, self._dataset, self._learner = config, dataset, learner
        self._clock, self._metrics = clock, metrics
        self._epoch, self._order = -1, torch.empty(0)
        self.plateau = Plateau(config.epochs.patience)
        if config.epochs.schedule == "plateau" and not dataset.size(dataset.splits[-2]):
            raise ConfigError(
                f"schedule is plateau; it needs a validation split, which is empty in these data "
                f"of {config.dataset}"
            )

    def begin(self) -> None:
        """Has nothing to start."""

    def end_step(self) -> None:
        """Has nothing to end: an update is whole."""

    def take_step(self) -> None:
        """Takes an update.

        Raises:
            UserError: If the method cannot balance these tasks.
        """
        clock, epochs = self._clock, self._config.epochs
        every = epochs.eigenvalues_every
        with self._own_stream(f"update {clock.step}"):
            examples = self._next()
            look = every > 0 and clock.step % every == 0
            try:
                metrics = self._learner.update(examples, self.rate, look=look)
            except ValueError as error:
                raise UserError(f"method {self._config.method} cannot go on: {error}") from error
        self._metrics.add(metrics)
        clock.step += 1
        if epochs.schedule == "plateau" and clock.step % clock.batches == 0:
            self._validate()

    @property
    def rate(self) -> float:
        """Learning rate of the next update."""
        epochs = self._config.epochs
        epoch = self._clock.step // self._clock.batches
        return epochs.rate(epoch) * epochs.step_factor**self.plateau.steps

    def _validate(self) -> None:
        dataset, learner = self._dataset, self._learner
        found = measure(
            learner, batches(dataset, dataset.splits[-2], self._config.epochs.batch_size)
        )
        losses = [of_task[LOSS] for of_task in found.values.values()]
        self.plateau.take(sum(losses) / len(losses))

    def next_batch(self) -> Mapping[str, Any]:
        """What the next update would learn from."""
        with self._own_stream(f"update {self._clock.step}"):
            return vars(self._next())

    def _next(self) -> Examples:
        epoch, place = divmod(self._clock.step, self._clock.batches)
        split, size = self._dataset.splits[0], self._config.epochs.batch_size
        if epoch != self._epoch:
            generator = self._generator(f"epoch {epoch}")
            order = torch.randperm(self._dataset.size(split), generator=generator)
            self._epoch, self._order = epoch, order
        indices = self._order[place * size : (place + 1) * size].tolist()
        generator = self._generator(f"batch {self._clock.step}")
        return self._dataset.batch(split, indices, generator).to(self._learner.device)

    def _generator(self, stream: str) -> torch.Generator:
        return torch.Generator().manual_seed(stream_seed(self._config.seed, stream))

    @contextmanager
    def _own_stream(self, stream: str) -> Iterator[None]:
        """Has what draws from the global stream, such as dropout, draw from one of its own."""
        device = self._learner.device
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(stream_seed(self._config.seed, stream))
            yield
