"""Options of ``report_mt10``; imports nothing heavy, so that help and errors need not wait."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

from mtrl_ntk.errors import ConfigError
from mtrl_ntk.experiment.options.sections import LAST_EVALUATIONS
from mtrl_ntk.settings import Settings, number, setting

METRICS = ("success", "iqm", "median", "gap", "delta_m", "rank")


@dataclass(frozen=True)
class ReportOptions(Settings):
    """What to report, and where it goes."""

    out: Path | None = setting(None, flags=("--out", "--output"))
    """Folder of the report; by default report, or with --kernels plots in the first run's."""
    title: str = "Report on multi-task runs"
    """Title of the report."""
    methods: tuple[str, ...] = setting((), one_value=True)
    """Methods to report, as ntkmtl,equal; by default all that the folders hold."""
    metrics: tuple[str, ...] = setting(METRICS, one_value=True)
    """Columns of the first table, and panels of its picture."""
    last: int = number(LAST_EVALUATIONS, at_least=1)
    """Evaluations at the end of a run that the mean of the last ones is over."""
    until: int = number(0, at_least=0)
    """Vector step at which longer runs count as over, so that runs of different lengths can be
    compared; 0 for none."""
    anchors: tuple[str, ...] = setting((), one_value=True)
    """Published MT10 numbers shown beside the runs, with their protocol: table4 (of the NTKMTL
    paper), metaworld_plus_v1, metaworld_plus_v2, or all."""
    evaluate: bool = False
    """First evaluate runs on goals that training never met, as evaluate_mt10 does, where that has
    not been done; the report shows what has."""
    suite: str | None = None
    """Where runs' own tasks come from, as it was given to train_mt10; needed only for --evaluate,
    and for what is shown of unseen goals."""
    against: tuple[str, ...] = setting((), one_value=True)
    """Methods that all others are compared with, seed by seed, such as equal."""
    margin: float = number(0.05, above=0, at_most=1)
    """Difference that is too small to matter, for --against; of supervised runs a share of the
    metric's mean."""
    resample: Literal["tasks", "runs"] = "tasks"
    """What the bootstrap draws: runs of each task apart, as is usual, or whole runs."""
    resamples: int = number(5000, at_least=1, limit=100_000)
    """Bootstrap samples behind each interval."""
    force: bool = False
    """Put runs of different protocols into one report, several runs of a seed, or anchors of other
    tasks; the report says so."""
    kernels: tuple[Path, ...] = ()
    """Folders of runs whose tangent kernels are drawn side by side, instead of the report."""
    least_affinity: float | None = number(None, at_least=-1, at_most=1)
    """Mean affinity at which two groups of tasks are still joined; by default that of all tasks."""

    def __post_init__(self) -> None:
        super().__post_init__()
        unknown = [name for name in self.metrics if name not in METRICS]
        if unknown or not self.metrics:
            raise ConfigError(
                f"metrics is {','.join(self.metrics)!r}; it must be some of {', '.join(METRICS)}"
            )
        chosen = {one.name for one in fields(self) if getattr(self, one.name) != one.default}
        if "kernels" in chosen and (others := sorted(chosen - _OF_KERNELS)):
            raise ConfigError(f"{others[0]} is no option of --kernels; leave it out")
        if {"until", "evaluate"} <= chosen:
            raise ConfigError("evaluate is of the end of runs; leave out until")
        if "least_affinity" in chosen and "kernels" not in chosen:
            raise ConfigError("least_affinity is an option of --kernels")


_OF_KERNELS = frozenset({"kernels", "out", "least_affinity"})
