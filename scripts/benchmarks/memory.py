"""Measures the memory of a training run: the largest that the main job and its workers were.

A run of train_mt10 is started with a preset and a few steps, an evaluation at their end among them,
and its processes' resident memory is read many times a second. The workers' is the sum over all of
them, in which what they share counts once for each. The replay's rows are counted apart; they are
part of the main job's memory.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple, TypedDict

import psutil
import torch
from rich.console import Console
from rich.table import Table

from mtrl_ntk.errors import UserError
from mtrl_ntk.experiment.config import RunConfig
from mtrl_ntk.experiment.training.command import load
from mtrl_ntk.rl.envs import ACTION_DIM, OBSERVATION_DIM, task_names
from mtrl_ntk.rl.replay import MultiTaskReplayBuffer
from mtrl_ntk.settings import Settings, number
from scripts.benchmarks.command import check_folder, parse, run_command, write_rows

PROG = "scripts.benchmarks.memory"

_TRAIN = [sys.executable, "-c", "from mtrl_ntk.cli import train_mt10; train_mt10()"]
_PAUSE_S = 0.05


@dataclass(frozen=True)
class BenchOptions(Settings):
    """Which run is measured."""

    preset: str = "mt10_quick"
    """Preset, or config file, of the run."""
    method: str = "ntkmtl"
    """Balancing method."""
    steps: int = number(200, at_least=2)
    """Vector steps of the run; half of them are without updates."""
    workers: int = -1
    """Processes that step the environments, as for train_mt10."""
    json: Path | None = None
    """File for the rows of the table."""

    def __post_init__(self) -> None:
        """Raises a ConfigError that names the first bad value."""
        super().__post_init__()
        check_folder("json", self.json)

    @property
    def arguments(self) -> list[str]:
        """The run's command line, without its folder."""
        return [
            *("--config", self.preset, "--method", self.method, "--device", "cpu"),
            *("--total-steps", str(self.steps), "--evaluate-every", str(self.steps)),
            *("--warmstart-steps", str(self.steps // 2), f"--workers={self.workers}"),
        ]


class Peak(NamedTuple):
    """The largest resident memory that was seen, in bytes."""

    main: int = 0
    workers: int = 0
    num_workers: int = 0


class MemoryRow(TypedDict):
    """Memory of one part of a run."""

    what: str
    """``main``, ``workers`` or ``replay``."""
    megabytes: float
    processes: int
    bytes_per_transition: float
    """Of the replay; zero elsewhere."""


def measure(chosen: BenchOptions) -> Peak:
    """Trains in a folder of its own and watches.

    Raises:
        UserError: If the run fails.
    """
    with TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        command = [*_TRAIN, *chosen.arguments, "--run-dir", str(Path(folder) / "run")]
        with (
            log.open("w", encoding="utf-8") as output,
            subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT) as process,
        ):
            peak = watch(psutil.Process(process.pid), process)
        if process.returncode != 0:
            lines = log.read_text(encoding="utf-8").strip().splitlines()
            raise UserError(f"the run has failed: {lines[-1] if lines else process.returncode}")
    return peak


def watch(main: psutil.Process, process: subprocess.Popen[bytes]) -> Peak:
    """Reads the memory of a process and of its descendants until it ends."""
    peak = Peak()
    while process.poll() is None:
        children = main.children(recursive=True)
        workers = [size for child in children if (size := _resident(child))]
        peak = Peak(
            max(peak.main, _resident(main)),
            max(peak.workers, sum(workers)),
            max(peak.num_workers, len(workers)),
        )
        time.sleep(_PAUSE_S)
    return peak


def _resident(process: psutil.Process) -> int:
    """Resident memory of a process; zero if it has just ended."""
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


def replay_row(config: RunConfig) -> MemoryRow:
    """Memory of the replay of a run, measured on one of a few transitions."""
    num_tasks, capacity = len(task_names(config.env.benchmark, config.env.tasks or None)), 10
    replay = MultiTaskReplayBuffer(
        num_tasks,
        capacity,
        OBSERVATION_DIM,
        ACTION_DIM,
        device=torch.device("cpu"),
        generator=torch.Generator(),
    )
    each = replay.nbytes / (num_tasks * capacity)
    megabytes = 1e-6 * each * num_tasks * config.loop.replay_capacity
    return MemoryRow(what="replay", megabytes=megabytes, processes=0, bytes_per_transition=each)


def rows_of(chosen: BenchOptions) -> list[MemoryRow]:
    """One row for each part of a run."""
    config = load(chosen.arguments, "train_mt10")
    peak = measure(chosen)
    parts = {"main": (peak.main, 1), "workers": (peak.workers, peak.num_workers)}
    rows = [
        MemoryRow(what=what, megabytes=1e-6 * size, processes=number, bytes_per_transition=0.0)
        for what, (size, number) in parts.items()
    ]
    return [*rows, replay_row(config)]


def table(rows: Sequence[MemoryRow]) -> Table:
    """The rows for people."""
    shown = Table("what", "MB", "processes", "bytes per transition")
    for row in rows:
        each = f"{row['bytes_per_transition']:.0f}" if row["bytes_per_transition"] else ""
        shown.add_row(row["what"], f"{row['megabytes']:.0f}", str(row["processes"]), each)
    return shown


def run(argv: Sequence[str]) -> None:
    """Measures and reports as the arguments say.

    Raises:
        UserError: If the arguments cannot be used.
    """
    chosen = parse(PROG, __doc__, BenchOptions(), argv)
    rows = rows_of(chosen)
    Console().print(table(rows))
    write_rows(chosen.json, rows)


def main(argv: Sequence[str]) -> int:
    """Runs the command; a mistake of the user is one line and the exit code 2."""
    return run_command(PROG, run, argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
