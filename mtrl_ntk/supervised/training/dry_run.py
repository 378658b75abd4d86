"""What a supervised run would be and would take, shown without writing anything."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import psutil
import torch

from mtrl_ntk.experiment.checkpoints.resume import find_start
from mtrl_ntk.experiment.checkpoints.run_state import counters_of
from mtrl_ntk.experiment.devices import asked_threads
from mtrl_ntk.experiment.logs.metrics import MetricMeans
from mtrl_ntk.experiment.logs.progress import format_duration
from mtrl_ntk.experiment.logs.streams import print_lines
from mtrl_ntk.experiment.training.disk_space import free_space, size_text
from mtrl_ntk.experiment.training.dry_run import description
from mtrl_ntk.experiment.training.whole import folder_of
from mtrl_ntk.rl.envs import usable_cores
from mtrl_ntk.supervised.config import SUPERVISED, SupervisedConfig
from mtrl_ntk.supervised.scores import Counters
from mtrl_ntk.supervised.training.evaluations import batches, measure
from mtrl_ntk.supervised.training.run import SupervisedRun
from mtrl_ntk.supervised.training.trainer import EpochTrainer

_TIMED_UPDATES, _TIMED_BATCHES = 5, 3


def show_what_a_run_would_be(config: SupervisedConfig) -> None:
    """Prints settings, folder, protocol and costs; all of it is a file for ``--config``.

    Raises:
        UserError: If the run could not start so.
    """
    start, run_dir = find_start(config), folder_of(config)
    done = counters_of(start.found, Counters).updates if start and start.found else 0
    print_lines(_description(SupervisedRun(config, quiet=True), run_dir, done))


def _description(run: SupervisedRun, run_dir: Path, done: int) -> Iterator[str]:
    config = run.config
    selected = {name: getattr(config, name) for name in SUPERVISED.selectors}
    yield from description(config, SUPERVISED.build(selected), run.protocol, run_dir, done)
    for line in estimate(run, run_dir, done):
        yield f"# {line}"


class Costs(NamedTuple):
    """What a run takes: seconds, and bytes."""

    update_s: float
    """An update."""
    evaluations_s: float
    """All evaluations."""
    start_s: float
    """Opening the data set and making the network."""
    total_s: float
    """All of it, from the update at which it goes on."""
    memory: int
    """This process's at the end of a few updates."""
    disk: int
    """Bytes that the run writes at most."""


def estimate(run: SupervisedRun, run_dir: Path, done: int = 0) -> Iterator[str]:
    """Time, memory and disk of a run that writes to a folder, in lines."""
    costs, threads = rehearse(run, done), torch.get_num_threads()
    yield (
        f"estimate, from updates that were taken just now with {threads} "
        f"thread{'s' * (threads > 1)}:"
    )
    yield (
        f"  time: about {format_duration(costs.total_s)}, at {costs.update_s * 1e3:.1f} ms an "
        f"update, and {format_duration(costs.evaluations_s)} of it for evaluations"
    )
    free = size_text(psutil.virtual_memory().available)
    yield f"  memory: at least {size_text(costs.memory)}, which this estimate took; {free} are free"
    yield (
        f"  disk: at most about {size_text(costs.disk)}; {size_text(free_space(run_dir))} are free"
    )


def rehearse(run: SupervisedRun, done: int = 0) -> Costs:
    """Takes a few updates of a run, and a few batches of its evaluation.

    Args:
        run: The run.
        done: Updates that it has taken already.
    """
    config, begun = run.config, time.perf_counter()
    torch.set_num_threads(asked_threads(config) or usable_cores())
    learner, clock, dataset = run.make_learner(), run.make_clock(), run.dataset
    trainer = EpochTrainer(config, dataset, learner, clock, MetricMeans(learner.device))
    trainer.take_step()  # allocates and checks
    started = time.perf_counter()
    for _ in range(_TIMED_UPDATES):
        trainer.take_step()
    updated = time.perf_counter()
    split, batch_size = dataset.splits[-1], config.epochs.batch_size
    measure(learner, islice(batches(dataset, split, batch_size), _TIMED_BATCHES))
    measured = time.perf_counter() - updated
    share = dataset.size(split) / min(_TIMED_BATCHES * batch_size, dataset.size(split))
    evaluations_s = measured * share * -(-config.length // config.epochs.evaluate_every)
    update_s = (updated - started) / _TIMED_UPDATES
    updates = clock.batches * config.length - done
    return Costs(
        update_s,
        evaluations_s,
        started - begun,
        started - begun + updates * update_s + evaluations_s,
        psutil.Process().memory_info().rss,
        run.disk_need(learner).most,
    )
