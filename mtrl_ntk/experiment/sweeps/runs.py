"""The runs of a sweep: their settings, what their folders say of them, and their share of cores."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch

from mtrl_ntk.errors import ConfigError
from mtrl_ntk.experiment.checkpoints.archive import checkpoints, is_replay_dropped
from mtrl_ntk.experiment.checkpoints.checkpoint import CheckpointError, read_metadata
from mtrl_ntk.experiment.config import FIXED, to_dict
from mtrl_ntk.experiment.devices import asked_threads, resolve_device
from mtrl_ntk.experiment.families import Configuration
from mtrl_ntk.experiment.files.layout import CHECKPOINT, CONFIG, TRAINING_CSV, holds_run
from mtrl_ntk.experiment.logs.csv_sink import success_rates
from mtrl_ntk.experiment.logs.progress import MISSING
from mtrl_ntk.experiment.sweeps.options import Sweep, SweepOptions, as_flag
from mtrl_ntk.experiment.training.command import load

FolderState = Literal["new", "interrupted", "finished"]


def percent(share: float) -> str:
    """A share for people, or a dash for none."""
    return MISSING if math.isnan(share) else f"{share:.0%}"


@dataclass(frozen=True)
class Swept:
    """What a sweep has to know of the kind of its runs."""

    load: Callable[[Sequence[str], str], Any]
    """Makes a configuration of a command line."""
    scores: Callable[[Path], Mapping[int, float]]
    """How good the evaluations of a folder are, by the unit of lengths."""
    score: str = "success"
    """What that is."""
    text: Callable[[float], str] = percent
    """How it is shown."""
    unit: str = "steps"
    """How the unit of lengths is called."""
    column: int = 0
    """Place of that unit among the counters of ``training.csv``."""
    standing: tuple[str, ...] = ("--drop-replay",)
    """Arguments of all runs, before those that are asked for."""
    costs: Callable[[Any, int], Any] | None = None
    """Tries what a run takes that has come so far, if not as for ``train_mt10``."""


REINFORCED = Swept(load, success_rates)
"""Runs of ``train_mt10``."""


@dataclass(frozen=True)
class SweepRun:
    """One run of a sweep."""

    name: str
    """Name of its folder."""
    folder: Path
    """Where it writes."""
    arguments: tuple[str, ...]
    """Arguments of the command that trains, but for its share of the cores."""
    config: Any
    """What they come to."""
    kind: Swept
    """What kind of run it is."""

    @property
    def step(self) -> int:
        """How far its newest readable checkpoint is, in the unit of lengths; 0 without one."""
        return saved_step(self.folder, self.config.family.unit)


def plan_runs(sweep: Sweep, kind: Swept = REINFORCED) -> list[SweepRun]:
    """Lists the runs of a sweep, seed by seed, so that all methods come to their first results.

    Raises:
        UserError: If a run cannot be configured so, or its folder holds a run of other settings.
    """
    options = sweep.options
    methods = dict.fromkeys(options.methods)
    runs = [
        _plan_run(sweep, kind, method, seed, variant)
        for seed, variant, method in product(options.seed_numbers, options.variants, methods)
    ]
    names = [run.name for run in runs]
    if clash := next((name for name in names if names.count(name) > 1), None):
        raise ConfigError(f"two runs would be named {clash}; a value is given twice")
    alike: dict[Any, str] = {}
    for run in runs:
        twin = alike.setdefault(replace(run.config, run_dir=None), run.name)
        if twin != run.name:
            raise ConfigError(f"{twin} and {run.name} would be the same; leave one out")
    if options.backend == "local":
        for device in {run.config.device for run in runs}:
            resolve_device(device)
    for run in runs:
        _check_folder(run)
    return runs


def _plan_run(
    sweep: Sweep, kind: Swept, method: str, seed: int, variant: Mapping[str, str]
) -> SweepRun:
    varied = [as_flag(*item) for item in variant.items()]
    # A sweep is many runs, which end for good: --no-drop-replay among its settings keeps replays.
    asked = [*sweep.settings, *varied, f"--method={method}", f"--seed={seed}"]
    arguments = [*kind.standing, *asked]
    config = kind.load(arguments, "train")
    settings = [re.sub(r"[^\w.=+-]", "_", f"{key}={value}") for key, value in variant.items()]
    name = "-".join([method, *settings, f"seed{seed}"])
    # One folder for all, also where their tasks differ.
    varies_tasks = {"benchmark", "tasks"} & sweep.options.varied
    group = (config.preset if varies_tasks else None) or config.group
    folder = (sweep.options.out or Path("sweeps") / group) / name
    return SweepRun(
        name, folder, (*arguments, f"--run-dir={folder}"), replace(config, run_dir=folder), kind
    )


def _check_folder(run: SweepRun) -> None:
    """Keeps runs of other settings out of a sweep.

    Raises:
        ConfigError: If there is one in the run's folder.
    """
    saved = run.folder / CONFIG
    if not saved.exists():
        return
    before, now = to_dict(run.config.family.read(saved)), to_dict(run.config, FIXED)
    differences = [
        f"{name} was {before.get(name)}, is {value}"
        for name, value in now.items()
        if before.get(name) != value
    ]
    if differences:
        raise ConfigError(
            f"{run.folder} holds a run with other settings: {'; '.join(differences)}; choose "
            "another --out"
        )
    if (step := run.step) > run.config.length:
        option, unit = run.config.family.length_option, run.kind.unit.removesuffix("s")
        raise ConfigError(
            f"{option} is {run.config.length}, and {run.folder} is already at {unit} {step}; "
            "choose another --out"
        )
    newest = next(_readable(run.folder), None)
    if newest and is_replay_dropped(*newest) and folder_state(run) == "interrupted":
        raise ConfigError(
            f"{run.folder} has ended without its replay, so that it cannot be made longer; choose "
            "another --out, with --no-drop-replay if the runs there shall be"
        )


def folder_state(run: SweepRun) -> FolderState:
    """What the folder of a run says: a finished one has saved and evaluated its last step."""
    if not holds_run(run.folder):
        return "new"
    metadata = _newest_metadata(run.folder)
    step = _step(metadata, run.config.family.unit)
    score = run.kind.scores(run.folder).get(step)
    is_finished = metadata.get("finished") and score is not None
    return "finished" if is_finished and run.config.is_over(step, score) else "interrupted"


def saved_step(folder: Path, unit: str) -> int:
    """A count at the newest readable checkpoint of a run; 0 if there is none."""
    return _step(_newest_metadata(folder), unit)


def last_logged_step(folder: Path, column: int = 0) -> int:
    """The first count, or another, at the last row of ``training.csv``; 0 if there is none."""
    path = folder / TRAINING_CSV
    try:
        if not path.is_file():
            return 0
        with path.open("rb") as file:
            file.seek(max(os.fstat(file.fileno()).st_size - _TAIL, 0))
            rows = file.read(_TAIL).split(b"\n")
    except OSError:
        return 0
    # What follows the last line break is not whole, and the first line may be cut off or a header.
    cells = rows[-2].split(b",") if len(rows) > 2 else []
    return int(cells[column]) if len(cells) > column and cells[column].isdigit() else 0


_TAIL = 1 << 16
"""Bytes at the end of ``training.csv`` that surely hold a row."""


def _newest_metadata(folder: Path) -> Mapping[str, object]:
    return next((metadata for _, metadata in _readable(folder)), {})


def _readable(folder: Path) -> Iterator[tuple[Path, Mapping[str, object]]]:
    """The checkpoints of a run with their metadata, the newest first."""
    for checkpoint in reversed(checkpoints(folder / CHECKPOINT)):
        # --resume passes over damaged ones too, and says why
        with suppress(CheckpointError):
            yield checkpoint, read_metadata(checkpoint)


def _step(metadata: Mapping[str, object], unit: str) -> int:
    counters = metadata.get("counters")
    step = counters.get(unit) if isinstance(counters, dict) else None
    return step if isinstance(step, int) else 0


class Share(NamedTuple):
    """What one run may use."""

    threads: int
    """Threads of the learner."""
    workers: int
    """Processes besides, which take turns with nobody."""

    def settings(self, config: Configuration) -> dict[str, int]:
        """The share as settings of a run, of which not all kinds have workers."""
        known = to_dict(config)
        return {name: value for name, value in self._asdict().items() if name in known}


class JobsPlan(NamedTuple):
    """How runs share the machine."""

    jobs: int
    """Runs at once."""
    cores: int
    """Cores of all runs together."""
    gpus: tuple[str, ...]
    """GPUs that the runs use in turn; none if they use the CPU, or a cluster deals them out."""
    backend: str = "local"
    """Where the cores are."""

    def share(self, config: Configuration) -> Share:
        """Threads and workers of a run; what its settings fix is kept."""
        cores = max(1, self.cores // self.jobs)
        threads, workers = asked_threads(config), config.workers
        if workers < 0:
            free = max(0, cores - (threads or 1))
            workers = min(free, max(0, config.workers_on(cores)))
        return Share(threads or max(1, cores - workers), workers)

    @property
    def slots(self) -> list[dict[str, str]]:
        """What each of the runs at once adds to its environment."""
        if not self.gpus:
            return [{} for _ in range(self.jobs)]
        return [
            {"CUDA_VISIBLE_DEVICES": self.gpus[job % len(self.gpus)]} for job in range(self.jobs)
        ]


def plan_jobs(
    configs: Sequence[Configuration], wanted: int, cores: int, gpus: Sequence[str] = ()
) -> JobsPlan:
    """Decides how many runs go on at once: as many as there are cores, or GPUs, for.

    All runs of a sweep count, finished or not: a sweep that is taken up again then shares the
    machine as before, which the last bits of its numbers depend on.

    Args:
        configs: The configurations of all runs.
        wanted: Runs at once; 0 to choose.
        cores: Cores that all may use together.
        gpus: GPUs that all may use together, by what CUDA_VISIBLE_DEVICES calls them.
    """
    most = min(cores // _least_cores(configs), len(gpus) or cores, len(configs))
    return JobsPlan(wanted or max(1, most), cores, tuple(gpus))


def plan_cluster(configs: Sequence[Configuration], options: SweepOptions) -> JobsPlan:
    """Decides what each run has of a cluster, which itself decides how many go on at once."""
    jobs = options.jobs or len(configs)
    return JobsPlan(jobs, jobs * (options.cpus or _least_cores(configs)), (), options.backend)


def _least_cores(configs: Sequence[Configuration]) -> int:
    """Cores without which a run would compete with itself."""
    return max((asked_threads(config) or 1) + max(config.workers, 0) for config in configs)


def usable_gpus(configs: Sequence[Configuration]) -> tuple[str, ...]:
    """The GPUs that runs would use, by what CUDA_VISIBLE_DEVICES calls them."""
    if not any(resolve_device(config.device).type == "cuda" for config in configs):
        return ()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count()
    return tuple(visible.split(",")[:count] if visible else map(str, range(count)))
