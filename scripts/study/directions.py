"""Where methods would have gone: cosines between their steps, on gradients that a run kept.

Reads the extended kernels that ``train_mt10 --kernel-every N`` keeps. Inner products are all that
most methods see of gradients, so that any of them can be asked afterwards what it would have made
of the same ones. Prints for critic and actor, in each fifth of the runs, as mean and range over the
runs, the cosine of each method's step with that of others; of methods that have kernels, for each
number of mini-batches that those of the run can be brought to::

    python -m scripts.study.directions sweeps/study/directions/ntkmtl-normalize_returns=0-seed*
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtrl_ntk.balancing import Jacobian
from mtrl_ntk.balancing.methods import METHODS
from mtrl_ntk.balancing.weighing import weigh
from mtrl_ntk.balancing.weighting import (
    GramianWeighting,
    KernelWeighting,
    NormWeighting,
    Weighting,
)
from mtrl_ntk.errors import UserError
from mtrl_ntk.experiment.kernels.diagnosis import PARTS, load_diagnoses
from mtrl_ntk.rl.sac import Part
from scripts.study.fifths import FIFTHS, Table, heading, in_fifths, shown

METHODS_THAT_CAN = [
    name
    for name, method in METHODS.items()
    if not method.balances
    or (
        issubclass(method, GramianWeighting | KernelWeighting | NormWeighting)
        and not method.needs_representation
    )
]
"""Methods to which inner products of this step's gradients are all there is."""


def rows_of(kernel: NDArray[np.float32]) -> Tensor:
    """Rows that have the same inner products as a run's gradients, ``[tasks, n, tasks * n]``.

    They are these gradients in other coordinates.

    Args:
        kernel: Inner products of the gradients of all mini-batches, ``[tasks, n, tasks, n]``.
    """
    num_tasks, num_minibatches = kernel.shape[:2]
    products = torch.from_numpy(kernel).double().flatten(2, 3).flatten(0, 1)
    # Tasks differ by powers of ten, and the small ones would drown in the others' rounding.
    norms = products.diagonal().clamp(min=0).sqrt()
    scale = norms[:, None] * norms
    values, vectors = torch.linalg.eigh((products / scale).masked_fill(scale <= 0, 0.0))
    rows: Tensor = norms[:, None] * vectors * values.clamp(min=0).sqrt()
    return rows.float().view(num_tasks, num_minibatches, -1)


def step_of(weighting: Weighting, rows: Tensor) -> Tensor:
    """The step ``[columns]`` that a method without a past makes of rows ``[tasks, n, columns]``.

    Args:
        weighting: The method; n is a multiple of the number of mini-batches that it wants.
        rows: Gradients of mini-batches.
    """
    weighting.reset()
    merged = rows.unflatten(1, (weighting.num_minibatches, -1)).mean(2)
    return weigh(weighting, Jacobian(merged), rows.new_ones(len(rows))).gradient


def variants(name: str, num_tasks: int, most: int) -> Iterator[tuple[str, Weighting]]:
    """A method by what it is shown as; one with kernels for each divisor n of ``most``."""
    method = METHODS[name]
    if not issubclass(method, KernelWeighting):
        yield name, method(num_tasks)
        return
    for n in range(1, most + 1):
        if most % n == 0:
            yield f"{name}, n = {n}", method(num_tasks, method.config_class(num_minibatches=n))


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of a run")
    parser.add_argument(
        "--methods",
        nargs="+",
        choices=METHODS_THAT_CAN,
        default=["ntkmtl", "equal", "pcgrad", "fairgrad", "nash_mtl", "aligned_mtl"],
        metavar="NAME",
        help="methods to ask (default: %(default)s)",
    )
    parser.add_argument(
        "--against",
        nargs="+",
        choices=METHODS_THAT_CAN,
        default=["unit_norm", "equal"],
        metavar="NAME",
        help="methods to compare them with (default: %(default)s)",
    )
    parser.add_argument("--csv", type=Path, metavar="FILE", help="also write each run's numbers")
    options = parser.parse_args(argv)
    # PCGrad goes through tasks in an order that it draws.
    torch.manual_seed(0)
    names = [run.name for run in options.runs]
    lines = []
    print(f"part | method | against | {heading()}")
    for part in PARTS:
        kept = [_rows(run, part, parser) for run in options.runs]
        if len({rows.shape for run in kept for rows in run}) > 1:
            parser.error("the runs differ in their numbers of tasks or of mini-batches")
        for other in options.against:
            for method, found in _cosines(kept, options.methods, other):
                print(f"{part} | {method} | {other} | {shown(found)}")
                for run, of_run in zip(names, found, strict=True):
                    lines.append((run, part, method, other, *(f"{x:.4f}" for x in of_run)))
    if options.csv:
        _write(options.csv, lines)


def _cosines(
    runs: Sequence[Sequence[Tensor]], methods: Sequence[str], other: str
) -> Iterator[tuple[str, Table]]:
    """Cosines of methods' steps with another's in the fifths of runs, ``[runs, FIFTHS]``."""
    num_tasks, most = runs[0][0].shape[:2]
    _, reference = next(variants(other, num_tasks, most))
    with_it = [_course(reference, run) for run in runs]
    for name in (name for name in methods if name != other):
        for shown_as, weighting in variants(name, num_tasks, most):
            courses = [_course(weighting, run) for run in runs]
            cosines = [
                torch.cosine_similarity(one, two, dim=1)
                for one, two in zip(courses, with_it, strict=True)
            ]
            yield shown_as, np.stack([in_fifths(of_run.tolist()) for of_run in cosines])


def _course(weighting: Weighting, run: Sequence[Tensor]) -> Tensor:
    """Steps that a method makes of the rows a run kept, ``[diagnoses, columns]``."""
    return torch.stack([step_of(weighting, rows) for rows in run])


def _rows(run: Path, part: Part, parser: argparse.ArgumentParser) -> list[Tensor]:
    try:
        diagnoses = load_diagnoses(run, part)
    except UserError as error:
        parser.error(str(error))
    if not diagnoses:
        parser.error(f"{run} has no kernels: train it with --kernel-every 200")
    return [rows_of(diagnosis.extended_kernel) for diagnosis in diagnoses]


def _write(path: Path, lines: Sequence[Sequence[str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        fifths = [f"fifth_{each}" for each in range(1, FIFTHS + 1)]
        writer.writerow(("run", "part", "method", "against", *fifths))
        writer.writerows(lines)


if __name__ == "__main__":
    main()
