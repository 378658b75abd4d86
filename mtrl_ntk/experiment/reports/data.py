"""The runs of a report: found, read, checked to be comparable, and put together by method."""

from __future__ import annotations

import json
import math
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from itertools import product
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from mtrl_ntk.errors import UserError
from mtrl_ntk.experiment import config as run_config
from mtrl_ntk.experiment.evaluation.results import RESULT_CSV
from mtrl_ntk.experiment.families import Configuration
from mtrl_ntk.experiment.files.csv_files import read_rows
from mtrl_ntk.experiment.files.layout import (
    CONFIG,
    EVALUATION_CSV,
    EVALUATIONS,
    PLOTS,
    RUN_INFO,
    TRAINING_CSV,
    VIDEOS,
)
from mtrl_ntk.experiment.kernels.diagnosis import PARTS
from mtrl_ntk.experiment.options.values import counted
from mtrl_ntk.experiment.plots.run_plots import Curve, task_curves
from mtrl_ntk.experiment.reports.statistics import Float64Array
from mtrl_ntk.experiment.reports.unseen import Unseen, find_unseen
from mtrl_ntk.experiment.types import MEAN_TASK, NO_SUCCESS

SINGLE_TASK = "STL"
_LOGGED = ("weights", "ntk")
_FILES = (CONFIG, RUN_INFO, EVALUATION_CSV)
_MOST_BYTES = 1_000_000
"""Far above any ``run.json``."""
_MOST_SETTINGS = 3
_LONGEST_VALUE = 60


class AnyRun(Protocol):
    """A run of any kind, as its files tell it."""

    @property
    def path(self) -> Path:
        """Its folder."""

    @property
    def config(self) -> Configuration:
        """Its settings."""

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks."""

    @property
    def is_single_task(self) -> bool:
        """Whether every task has networks of its own."""

    @property
    def is_complete(self) -> bool:
        """Whether it has been evaluated at its end."""

    @property
    def protocol(self) -> Mapping[str, object]:
        """What its numbers mean."""

    @property
    def versions(self) -> Mapping[str, object]:
        """Versions of the packages that made it."""

    @property
    def logged(self) -> Mapping[tuple[str, str], Mapping[str, Curve]]:
        """Quantities over training: by quantity and part, then by task."""


R = TypeVar("R", bound=AnyRun)
R_co = TypeVar("R_co", bound=AnyRun, covariant=True)


@dataclass(frozen=True)
class MethodOf(Generic[R_co]):
    """The complete runs of a kind that differ in their seed only."""

    name: str
    """The balancing method's, with the settings that tell it from others of that name."""
    runs: tuple[R_co, ...]
    """One for each seed."""

    @property
    def is_single_task(self) -> bool:
        """Whether every task has networks of its own."""
        return self.runs[0].is_single_task

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks."""
        return self.runs[0].tasks


AnyMethod = MethodOf[AnyRun]
"""A method of runs of any kind."""


@dataclass(frozen=True)
class Run:
    """One run as its files tell it."""

    path: Path
    """Its folder."""
    config: run_config.RunConfig
    """Its settings."""
    protocol: Mapping[str, object]
    """What its numbers mean: that of ``run.json``, the tasks and the length."""
    versions: Mapping[str, object]
    """Versions of the packages that made it."""
    tasks: tuple[str, ...]
    """Names of the tasks."""
    vector_steps: Float64Array
    """``[evaluations]``"""
    env_steps: Float64Array
    """``[evaluations]``"""
    updates: Float64Array
    """``[evaluations]``"""
    seconds: Float64Array
    """Time since the start, ``[evaluations]``."""
    success: Float64Array
    """Success rates, ``[evaluations, tasks]``; where nothing counts as success, mean returns."""
    updates_per_second: float
    """Median over the log's intervals, so that evaluations do not count; NaN if unknown."""
    env_steps_per_second: float
    """Likewise."""
    unseen: Unseen | None
    """Success at the end on goals that training never met, if that was evaluated."""
    logged: Mapping[tuple[str, str], Mapping[str, Curve]]
    """Task weights and largest NTK eigenvalues over training: by quantity, ``weights`` or ``ntk``,
    and part, then by task."""

    @property
    def counts_returns(self) -> bool:
        """Whether mean returns stand for success, as nothing counts as such."""
        return self.protocol.get("success") == NO_SUCCESS

    @property
    def is_single_task(self) -> bool:
        """Whether every task has networks of its own."""
        return self.config.sac.shares.shares_nothing

    @property
    def is_complete(self) -> bool:
        """Whether the run has been evaluated at its end."""
        success = float(self.success[-1].mean()) if len(self.success) else None
        return self.config.is_over(self.reached, success)

    @property
    def reached(self) -> int:
        """Vector steps at the last evaluation; zero if there is none."""
        return int(self.vector_steps[-1]) if len(self.vector_steps) else 0

    @property
    def files(self) -> dict[str, Path]:
        """What lies in its folder for people to look at, by what it is."""
        possible = {
            "settings": self.path / CONFIG,
            **{path.stem: path for path in sorted((self.path / PLOTS).glob("*.png"))},
            **{path.stem: path for path in sorted((self.path / VIDEOS).glob("*.mp4"))[-1:]},
            "unseen goals": self.path if self.unseen is None else self.unseen.folder / RESULT_CSV,
            "video": max(self.path.glob(f"{EVALUATIONS}/*/{VIDEOS}/mosaic.mp4"), default=self.path),
        }
        return {name: path for name, path in possible.items() if path.is_file()}


@dataclass(frozen=True)
class Method(MethodOf[Run]):
    """The complete runs that differ in their seed only."""

    @property
    def final(self) -> Float64Array:
        """Success rates of the last evaluation, ``[runs, tasks]``."""
        return np.stack([run.success[-1] for run in self.runs])

    @property
    def unseen(self) -> Float64Array | None:
        """Success rates on goals that training never met, ``[runs, tasks]``, if all have some."""
        found = [run.unseen.success for run in self.runs if run.unseen is not None]
        return np.stack(found) if len(found) == len(self.runs) else None

    @property
    def task_curves(self) -> tuple[Float64Array, Float64Array]:
        """Environment steps that all runs have evaluated, and success ``[runs, steps, tasks]``."""
        steps = reduce(np.intersect1d, [run.env_steps for run in self.runs])
        curves = [run.success[np.isin(run.env_steps, steps)] for run in self.runs]
        return steps, np.stack(curves)

    @property
    def curves(self) -> tuple[Float64Array, Float64Array]:
        """The same steps, and mean success ``[runs, steps]``."""
        steps, curves = self.task_curves
        return steps, curves.mean(2)


def measured(runs: Iterable[Run]) -> str:
    """What the numbers in ``success`` of runs are, in words."""
    return " or ".join(
        sorted({"scaled return" if run.counts_returns else "success rate" for run in runs})
    )


Say = Callable[[str], object]
"""What takes a remark."""


def find_runs(folders: Sequence[Path], say: Say) -> list[Path]:
    """Folders of runs in folders, at any depth and behind symbolic links, each once.

    Args:
        folders: Where to look.
        say: Is told what is left out, and why.

    Raises:
        UserError: If a folder is missing, or holds no run.
    """
    found: dict[Path, Path] = {}
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"there is no folder {folder}; give folders of runs, such as runs")
        runs = [each for each in _folders_in(folder, say) if _is_run(each, say)]
        if not runs:
            raise UserError(
                f"{folder} holds no run: nowhere in it are {', '.join(_FILES)} side by side"
            )
        for run in runs:
            found.setdefault(run.resolve(), run)
    return list(found.values())


def _folders_in(folder: Path, say: Say) -> Iterator[Path]:
    """A folder and those in it, each once."""

    def skip(error: OSError) -> None:
        say(f"Left out: {error.filename}, which cannot be read: {error.strerror}.")

    seen: set[str] = set()
    for path, names, files in os.walk(folder, onerror=skip, followlinks=True):
        if (where := os.path.realpath(path)) in seen:
            names.clear()  # a link that leads back
            continue
        seen.add(where)
        names.sort()
        for link in (Path(path, name) for name in files):
            if link.is_symlink() and not link.exists():
                say(f"Left out: {link}, which leads nowhere.")
        yield Path(path)


def _is_run(folder: Path, say: Say) -> bool:
    """Whether a folder holds all that a report needs of a run."""
    there = [name for name in (*_FILES, TRAINING_CSV) if (folder / name).is_file()]
    missing = [name for name in _FILES if name not in there]
    if missing and len(there) > 1:
        say(f"Left out: {folder}, which has no {' and no '.join(missing)}.")
    return not missing


def read_run(path: Path, until: int = 0) -> Run:
    """Reads the files of a run.

    Args:
        path: Its folder.
        until: Vector step at which a longer run counts as over; 0 for none.

    Raises:
        UserError: If one of them is damaged, or the run would have been another if shorter.
    """
    config = _shortened(path, run_config.read(path / CONFIG), until)
    tasks = config.env.task_names
    info = read_info(path / RUN_INFO)
    length = f"{config.loop.total_steps * len(tasks) * config.env.envs_per_task:,}"
    names = f"{len(tasks)}: {', '.join(tasks)}"
    # Before there were features, all networks saw raw observations.
    stated = {"observations": "raw", **info["protocol"]}
    protocol = {**stated, "tasks": names, "environment steps in all": length}
    try:
        column = "mean_return" if stated.get("success") == NO_SUCCESS else "success_rate"
        evaluations = _evaluations(_rows(path / EVALUATION_CSV, config), tasks, column)
        log = _rows(path / TRAINING_CSV, config)
        updates_per_second, env_steps_per_second = _rates(log)
        logged: dict[tuple[str, str], dict[str, Curve]] = {
            (of, part): task_curves(log, of, part) for of, part in product(_LOGGED, PARTS)
        }
    except (KeyError, OSError, TypeError, ValueError) as error:
        raise UserError(f"a CSV file of {path} is damaged: {error}; leave that run out") from None
    run = Run(
        path=path,
        config=config,
        protocol=protocol,
        versions=info.get("versions") or {},
        tasks=tasks,
        vector_steps=evaluations[0],
        env_steps=evaluations[1],
        updates=evaluations[2],
        seconds=evaluations[3],
        success=evaluations[4],
        updates_per_second=updates_per_second,
        env_steps_per_second=env_steps_per_second,
        unseen=None,
        logged=logged,
    )
    return replace(run, unseen=find_unseen(path, config, run.reached)) if run.is_complete else run


def _shortened(path: Path, config: run_config.RunConfig, until: int) -> run_config.RunConfig:
    """The settings of a run that counts as over at a step, if it went on longer."""
    if not 0 < until < config.loop.total_steps:
        return config
    if config.sac.decays:
        raise UserError(
            f"{path} lowers a rate until step {config.loop.decay_end}, so that at step {until} it "
            "is not what a shorter run would be; leave out --until, or that run"
        )
    return replace(config, loop=replace(config.loop, total_steps=until))


def _rows(path: Path, config: run_config.RunConfig) -> list[dict[str, str]]:
    """The rows of a run's CSV file, as far as it counts."""
    rows, end = read_rows(path), config.loop.total_steps
    return [row for row in rows if int(row["vector_steps"]) <= end]


def read_info(path: Path) -> dict[str, Any]:
    """What ``run.json`` holds, the protocol at least.

    Raises:
        UserError: If it does not.
    """
    try:
        with path.open("rb") as file:
            info = json.loads(file.read(_MOST_BYTES).decode())
    except (OSError, ValueError, RecursionError):
        info = None
    if not isinstance(info, dict) or not isinstance(info.get("protocol"), dict):
        raise UserError(f"{path} is damaged: it holds no protocol; leave that run out")
    return info


def _evaluations(
    rows: Sequence[Mapping[str, str]], tasks: Sequence[str], column: str
) -> tuple[Float64Array, Float64Array, Float64Array, Float64Array, Float64Array]:
    """The counters of the evaluations, and a column of numbers by task.

    An evaluation whose rows were not all written is none.
    """
    rows_at: dict[int, dict[str, Mapping[str, str]]] = defaultdict(dict)
    for row in rows:
        if row["task"] != MEAN_TASK:
            rows_at[int(row["vector_steps"])][row["task"]] = row
    whole = [rows_at[step] for step in sorted(rows_at) if rows_at[step].keys() == set(tasks)]
    names = ("vector_steps", "env_steps", "updates", "seconds")
    counters = np.array([[float(one[tasks[0]][name]) for name in names] for one in whole])
    success = np.array([[float(one[task][column]) for task in tasks] for one in whole])
    vector_steps, env_steps, updates, seconds = counters.reshape(-1, len(names)).T
    return vector_steps, env_steps, updates, seconds, success.reshape(-1, len(tasks))


def with_returns_as_shares(runs: Sequence[Run]) -> list[Run]:
    """Puts mean returns on the scale of success rates, in runs in which nothing counts as success.

    Of each task, 0 is the lowest and 1 the highest mean return that any of these runs evaluated.
    """
    counting = [run for run in runs if run.counts_returns]
    returns: dict[str, list[Float64Array]] = defaultdict(list)
    for run in counting:
        for task, values in zip(run.tasks, run.success.T, strict=True):
            returns[task].append(values)
    low, high = (
        {task: edge(np.concatenate(values), initial=start) for task, values in returns.items()}
        for edge, start in ((np.min, math.inf), (np.max, -math.inf))
    )

    def share(run: Run) -> Float64Array:
        least, most = (np.array([edge[task] for task in run.tasks]) for edge in (low, high))
        shares: Float64Array = (run.success - least) / np.where(most > least, most - least, 1)
        return shares

    return [
        replace(run, success=share(run)) if run.counts_returns and len(run.success) else run
        for run in runs
    ]


def _rates(rows: Sequence[Mapping[str, str]]) -> tuple[float, float]:
    """Updates and environment steps per second, median over the intervals with updates."""
    names = ("updates", "env_steps", "seconds")
    log = np.array([[float(row[name]) for name in names] for row in rows]).reshape(-1, 3)
    updates, env_steps, seconds = np.diff(log, axis=0).T
    timed = (updates > 0) & (seconds > 0)
    if not timed.any():
        return math.nan, math.nan
    rates = [float(np.median((count / seconds)[timed])) for count in (updates, env_steps)]
    return rates[0], rates[1]


def differences(facts: Sequence[Mapping[str, object]], runs: Sequence[AnyRun]) -> dict[str, str]:
    """A line for each point in which the facts about runs differ, such as their protocols."""
    lines = {}
    for key in dict.fromkeys(key for of_run in facts for key in of_run):
        runs_with: dict[str, list[AnyRun]] = defaultdict(list)
        for of_run, run in zip(facts, runs, strict=True):
            runs_with[str(of_run.get(key, "not stated"))].append(run)
        if len(runs_with) > 1:
            values = [f"{shortened(value)} in {_few(r)}" for value, r in runs_with.items()]
            lines[key] = f"{key} is {', but '.join(values)}"
    return lines


def shortened(value: str) -> str:
    """A value that fits a line."""
    return value if len(value) <= _LONGEST_VALUE else f"{value[:_LONGEST_VALUE]}..."


def _few(runs: Sequence[AnyRun]) -> str:
    others = len(runs) - 1
    return str(runs[0].path) + (f" and {others} more" if others else "")


def group_runs(runs: Sequence[Run]) -> list[Method]:
    """Puts runs together that differ in nothing that an agent learns from but their seed."""
    return [Method(name, tuple(group)) for name, group in grouped(runs)]


def grouped(runs: Sequence[R]) -> list[tuple[str, list[R]]]:
    """Runs of any kind that differ in nothing but their seed, under the name of their method."""
    groups: dict[str, list[R]] = defaultdict(list)
    for run in runs:
        # JSON, as settings such as lists of tasks cannot be keys themselves.
        key = [base_name(run), _settings(run), run.tasks]
        groups[json.dumps(key, sort_keys=True)].append(run)
    by_name: dict[str, list[list[R]]] = defaultdict(list)
    for group in groups.values():
        by_name[base_name(group[0])].append(sorted(group, key=lambda run: run.config.seed))
    return [
        (name, group)
        for base, same_name in by_name.items()
        for name, group in zip(_names(base, same_name), same_name, strict=True)
    ]


def differing_settings(methods: Sequence[AnyMethod]) -> dict[str, list[object]]:
    """The settings in which methods differ, by name, each with its value of every method."""
    settings = [_settings(method.runs[0]) for method in methods]
    names = dict.fromkeys(name for one in settings for name in one)
    values = {name: [one.get(name) for one in settings] for name in names}
    return {name: of for name, of in values.items() if len({str(value) for value in of}) > 1}


def repeated_seeds(methods: Sequence[AnyMethod]) -> list[str]:
    """One line for each seed of which a method has several runs."""
    lines = []
    for method in methods:
        paths: dict[int, list[Path]] = defaultdict(list)
        for run in method.runs:
            paths[run.config.seed].append(run.path)
        lines += [
            f"seed {seed} of {method.name}: {', '.join(map(str, several))}"
            for seed, several in paths.items()
            if len(several) > 1
        ]
    return lines


def _settings(run: AnyRun) -> dict[str, object]:
    return run_config.to_dict(run.config, run_config.SHARED)


def base_name(run: AnyRun) -> str:
    """The balancing method's name, or that of single-task runs."""
    return SINGLE_TASK if run.is_single_task else run.config.method


def _setting(name: str, value: object) -> str:
    if isinstance(value, list):
        return counted(len(value), "task")
    return f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"


def _names(base: str, groups: Sequence[Sequence[AnyRun]]) -> list[str]:
    """Names that tell groups of the same method apart: by preset, or by what they differ in.

    Where many settings differ, as after changing them one at a time, a group is named by those in
    which it differs from most.
    """
    if len(groups) == 1:
        return [base]
    presets = [group[0].config.group for group in groups]
    settings = [_settings(group[0]) for group in groups]
    values = {key: [str(one.get(key)) for one in settings] for key in settings[0]}
    differing = {key: of for key, of in values.items() if len(set(of)) > 1}
    many = len(differing) > _MOST_SETTINGS
    if many and len(set(presets)) == len(presets):
        return [f"{base}, {preset}" for preset in presets]
    usual = {key: Counter(of).most_common(1)[0][0] for key, of in differing.items() if many}
    names = []
    for one in settings:
        own = [key for key in differing if str(one.get(key)) != usual.get(key)]
        shown = (_setting(key, one.get(key)) for key in own[:_MOST_SETTINGS])
        names.append(", ".join([base, *shown]))
    if len(set(names)) == len(names):
        return names
    return [f"{name}, variant {number}" for number, name in enumerate(names, 1)]
