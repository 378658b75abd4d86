"""Options of ``report_mt10``; imports nothing heavy, so that help and errors need not wait."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from mtrl_ntk.experiment.ranges import check_ranges


@dataclass(frozen=True)
class ReportOptions:
    """What to report, and where it goes."""

    out: Path | None = field(default=None, metadata={"flags": ("--out", "--output")})
    """Folder of the report; by default report, or with --kernels plots in the first run's."""
    last: int = 5
    """Evaluations at the end of a run that the mean of the last ones is over."""
    resample: Literal["tasks", "runs"] = "tasks"
    """What the bootstrap draws: runs of each task apart, as is usual, or whole runs."""
    resamples: int = 5000
    """Bootstrap samples behind each interval."""
    force: bool = False
    """Put runs of different protocols into one report, and a seed's several runs; it says so."""
    kernels: tuple[Path, ...] = ()
    """Folders of runs whose tangent kernels are drawn side by side, instead of the report."""
    least_affinity: float | None = None
    """Mean affinity at which two groups of tasks are still joined; by default that of all tasks."""

    def __post_init__(self) -> None:
        check_ranges(self)
