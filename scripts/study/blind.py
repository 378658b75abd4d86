"""What a predictor scores that never looks at the input: what the metrics of a data set are worth.

Each task has one constant output, in dense prediction one for each pixel, which is fitted to the
task's own losses on examples to learn from and measured on those to measure on, as networks are::

    python -m scripts.study.blind --dataset scenes

It takes the options of ``train_supervised``; of large data sets the first ``EXAMPLES`` are fitted.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import torch
from torch import Tensor

from mtrl_ntk.supervised.command import load
from mtrl_ntk.supervised.datasets.dataset import Dataset
from mtrl_ntk.supervised.datasets.registry import DATASETS
from mtrl_ntk.supervised.tasks import Task
from mtrl_ntk.supervised.training.evaluations import batches
from scripts.benchmarks.command import run_command

PROG = "python -m scripts.study.blind"
EXAMPLES = 1000
STEPS = 300
_RATE = 0.1
_BATCH = 64


def constant(task: Task, targets: Tensor) -> Tensor:
    """The output for all rows, ``[1, outputs, ...]``, at which losses on targets are least.

    Args:
        task: Whose losses.
        targets: Targets of examples to learn from, ``[rows, ...]``.
    """
    pixels = targets.shape[-2:] if targets.ndim > 2 else ()
    output = torch.ones(1, task.outputs, *pixels, requires_grad=True)
    optimizer = torch.optim.Adam([output], lr=_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    generator = torch.Generator().manual_seed(0)
    for _ in range(STEPS):
        rows = torch.randint(len(targets), (_BATCH,), generator=generator)
        optimizer.zero_grad()
        task.losses(_for_rows(output, _BATCH), targets[rows]).mean().backward()
        optimizer.step()
        schedule.step()
    return output.detach()


def score(dataset: Dataset, task: Task, output: Tensor) -> dict[str, float]:
    """The metrics of a constant output on the split that results are measured on."""
    tally = task.tally()
    for examples in batches(dataset, dataset.splits[-1], _BATCH):
        tally.add(_for_rows(output, len(examples)), examples.targets[task.name])
    return tally.result()


def _for_rows(output: Tensor, rows: int) -> Tensor:
    return output.expand(rows, *output.shape[1:])


def run(argv: Sequence[str]) -> None:
    """Prints what the constant outputs of a data set's tasks score."""
    config = load(argv, PROG)
    dataset = DATASETS[config.dataset](config.data)
    split = dataset.splits[0]
    learnt_from = dataset.batch(split, range(min(EXAMPLES, dataset.size(split)))).targets
    for task in dataset.tasks:
        found = score(dataset, task, constant(task, learnt_from[task.name]))
        for metric in task.metrics:
            value = f"{found[metric.name]:.{metric.decimals}f} {metric.unit}".rstrip()
            print(f"{task.name}: {metric.title} {value}")


if __name__ == "__main__":
    sys.exit(run_command(PROG, run, sys.argv[1:]))
