"""The report on the tangent kernels of runs: eigenvalues, affinities and suggested groups."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mtrl_ntk.errors import UserError
from mtrl_ntk.experiment.config import RUNS
from mtrl_ntk.experiment.families import command_of
from mtrl_ntk.experiment.files.csv_files import read_rows
from mtrl_ntk.experiment.files.layout import CONFIG, PLOTS, TRAINING_CSV
from mtrl_ntk.experiment.kernels.diagnosis import PARTS, Diagnosis, load_diagnoses
from mtrl_ntk.experiment.kernels.figures import HeatMap, affinity_figure, eigenvalue_figure
from mtrl_ntk.experiment.kernels.grouping import Group, group_tasks, mean_affinity
from mtrl_ntk.experiment.logs.progress import standard_output
from mtrl_ntk.experiment.options.yaml_files import read_values
from mtrl_ntk.experiment.plots.run_plots import Curve, save, task_curves
from mtrl_ntk.rl.sac import Part

_EIGENVALUES = "eigenvalues.png"


@dataclass(frozen=True)
class _Run:
    """What a run says about its kernels."""

    title: str
    eigenvalues: dict[str, dict[str, Curve]]
    """Curves by part and task."""
    diagnoses: dict[Part, list[Diagnosis]]
    """Diagnoses of each part in their order."""


@dataclass(frozen=True)
class _Affinities:
    """The affinities of a part in a run, and the groups that they suggest."""

    title: str
    task_names: list[str]
    last: npt.NDArray[np.float64]
    mean: npt.NDArray[np.float64]
    groups: list[Group]

    def heat_maps(self, order: Sequence[str]) -> list[HeatMap]:
        """The mean over training and the last diagnosis, with the tasks in an order."""
        group_of = {task: number for number, group in enumerate(self.groups, 1) for task in group}
        tasks = [self.task_names.index(name) for name in order]
        groups = [group_of[task] for task in tasks]
        return [
            HeatMap(f"{self.title}\n{moment}", values[np.ix_(tasks, tasks)], order, groups)
            for moment, values in (("mean over training", self.mean), ("last", self.last))
        ]

    @property
    def order(self) -> list[str]:
        """The tasks' names, group by group."""
        return [self.task_names[task] for group in self.groups for task in group]


def report_kernels(
    run_dirs: Sequence[Path],
    *,
    output: Path | None,
    least_affinity: float | None,
    console: Console | None = None,
) -> None:
    """Draws the kernels of runs side by side and prints the groups that the tasks form.

    Args:
        run_dirs: Folders of the runs.
        output: Folder of the pictures; by default ``plots`` in the first run's folder.
        least_affinity: Mean affinity at which two groups of tasks are still joined; None takes
            that of all pairs of tasks.
        console: Where to print; by default the standard output.

    Raises:
        UserError: If a folder holds no run, or there is nothing to draw.
    """
    console = console or standard_output()
    runs = [_read(path, title) for path, title in zip(run_dirs, _titles(run_dirs), strict=True)]
    affinities = {part: _affinities(runs, part, least_affinity) for part in PARTS}
    figures = dict(_figures(runs, affinities))
    if not figures:
        raise UserError(
            f"nothing to draw: {TRAINING_CSV} needs two rows, and there are no diagnoses of kernels"
        )
    for path in _write(figures, output or run_dirs[0] / PLOTS):
        console.print(Text(str(path)), soft_wrap=True)
    for part, of_runs in affinities.items():
        for one in of_runs:
            heading = f"{one.title}, {part}: groups by mean affinity over training"
            console.print(Text(heading, style="bold"), soft_wrap=True)
            console.print(_table(one), highlight=False)
    for run, path in zip(runs, run_dirs, strict=True):
        if not any(run.diagnoses.values()):
            hint = "affinities and groups need a run with --kernel-every N"
            console.print(Text(f"{path} holds no diagnoses of kernels: {hint}"), soft_wrap=True)


def _titles(run_dirs: Sequence[Path]) -> list[str]:
    """The folders' names, or whole paths where names are not enough."""
    names = [path.resolve().name for path in run_dirs]
    return names if len(set(names)) == len(names) else [str(path) for path in run_dirs]


def _read(run_dir: Path, title: str) -> _Run:
    if not (run_dir / TRAINING_CSV).is_file():
        raise UserError(f"{run_dir} holds no run: there is no {TRAINING_CSV}")
    settings = read_values(run_dir / CONFIG) if (run_dir / CONFIG).is_file() else {}
    if (command := command_of(settings)) not in (None, RUNS.command):
        raise UserError(
            f"{run_dir} is of {command}, which keeps no kernels; report_mt10 {run_dir} shows their "
            "eigenvalues"
        )
    rows = read_rows(run_dir / TRAINING_CSV, "env_steps")
    eigenvalues: dict[str, dict[str, Curve]] = {p: task_curves(rows, "ntk", p) for p in PARTS}
    return _Run(title, eigenvalues, {part: load_diagnoses(run_dir, part) for part in PARTS})


def _affinities(
    runs: Sequence[_Run], part: Part, least_affinity: float | None
) -> list[_Affinities]:
    found = []
    for run in runs:
        if diagnoses := run.diagnoses[part]:
            mean = np.mean([diagnosis.affinity for diagnosis in diagnoses], axis=0)
            last = diagnoses[-1]
            groups = group_tasks(mean, least_affinity)
            names = last.task_names.tolist()
            found.append(_Affinities(run.title, names, last.affinity, mean, groups))
    return found


def _figures(
    runs: Sequence[_Run], affinities: dict[Part, list[_Affinities]]
) -> Iterator[tuple[str, Figure]]:
    """The pictures that there is something for, by file name."""
    if any(curves for run in runs for curves in run.eigenvalues.values()):
        yield _EIGENVALUES, eigenvalue_figure({run.title: run.eigenvalues for run in runs})
    for part, of_runs in affinities.items():
        if of_runs:
            # The first run's order for all, so that the same place means the same two tasks.
            order = of_runs[0].order
            rows = [
                one.heat_maps(order if set(order) == set(one.task_names) else one.order)
                for one in of_runs
            ]
            yield f"affinity_{part}.png", affinity_figure(rows)


def _write(figures: dict[str, Figure], folder: Path) -> list[Path]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, figure in figures.items():
            save(figure, folder / name, palette=name == _EIGENVALUES)
    except OSError as error:
        reason = f"{error.strerror}; choose another --output"
        raise UserError(f"cannot write to {folder}: {reason}") from error
    return [folder / name for name in figures]


def _table(affinities: _Affinities) -> Table:
    """Each group with the mean affinity between its tasks, and to all others."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("group", justify="right")
    table.add_column("within", justify="right")
    table.add_column("to others", justify="right")
    table.add_column("tasks")
    everyone = range(len(affinities.task_names))
    for number, group in enumerate(affinities.groups, 1):
        others = [task for task in everyone if task not in group]
        numbers = (mean_affinity(affinities.mean, group, who) for who in (group, others))
        names = ", ".join(affinities.task_names[task] for task in group)
        table.add_row(str(number), *map(_number, numbers), Text(names))
    return table


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.2f}"
