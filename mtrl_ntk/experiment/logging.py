"""What a run writes down: TensorBoard events, two CSV files and how it was made."""

from __future__ import annotations

import csv
import json
import math
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np
from torch.utils.tensorboard import SummaryWriter

import mtrl_ntk
from mtrl_ntk.errors import UserError

if TYPE_CHECKING:
    from typing_extensions import Self

    from mtrl_ntk.experiment.evaluation import EvaluationResult

TRAINING_CSV = "training.csv"
EVALUATION_CSV = "evaluation.csv"
MEAN_TASK = "mean"
PACKAGES = ("torch", "metaworld", "mujoco", "gymnasium", "numpy")


@dataclass(frozen=True)
class Counters:
    """How far a run has come."""

    vector_steps: int
    """Steps of the vector environment; the step axis of TensorBoard."""
    env_steps: int
    """Steps of all environments together."""
    updates: int
    """Gradient updates."""
    seconds: float
    """Wall-clock time since the start of the run."""


class RunLogger:
    """Writes training scalars and evaluations to TensorBoard and CSV; a context manager.

    Every row is flushed at once, so a killed run keeps all of them.

    Args:
        run_dir: Folder of the run, created if needed.
        task_names: Tasks in the order of every evaluation.

    Raises:
        UserError: If the folder cannot be made or already holds the logs of a run.
    """

    def __init__(self, run_dir: Path, task_names: Sequence[str]) -> None:
        try:
            run_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"cannot make the run's folder {run_dir}: {error.strerror}; choose --run-dir"
            ) from error
        self.run_dir = run_dir
        self._task_names = tuple(task_names)
        self._training = _CsvFile(run_dir / TRAINING_CSV)
        self._evaluation = _CsvFile(run_dir / EVALUATION_CSV)
        self._writer = SummaryWriter(str(run_dir))
        self._writer.add_custom_scalars(_layout())

    def __enter__(self) -> Self:
        """Returns the logger."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Closes the files."""
        self.close()

    def close(self) -> None:
        """Closes the files."""
        self._writer.close()
        self._training.close()
        self._evaluation.close()

    def log_training(self, counters: Counters, scalars: Mapping[str, float]) -> None:
        """Writes one row of training scalars; NaN stands for "no value" and becomes an empty cell.

        The first row fixes the columns.

        Raises:
            ValueError: If a later row brings a scalar that the first one did not have.
        """
        self._training.write({**asdict(counters), **scalars})
        self._write_events(counters, scalars)

    def log_evaluation(self, counters: Counters, result: EvaluationResult) -> None:
        """Writes one row per task and one for their mean.

        Raises:
            ValueError: If the result is of other tasks than the logger's.
        """
        if tuple(result.task_names) != self._task_names:
            raise ValueError(f"expected tasks {self._task_names}, got {result.task_names}")
        scalars = {}
        for task, success_rate, mean_return in _rows(result):
            scores = {"success_rate": success_rate, "mean_return": mean_return}
            row = {**asdict(counters), "task": task, **scores, "episodes": result.episodes}
            self._evaluation.write(row)
            scalars[f"charts/{task}_success_rate"] = success_rate
            scalars[f"charts/{task}_return"] = mean_return
        self._write_events(counters, scalars)

    def _write_events(self, counters: Counters, scalars: Mapping[str, float]) -> None:
        for tag, value in scalars.items():
            if not math.isnan(value):
                self._writer.add_scalar(tag, value, counters.vector_steps)
        self._writer.flush()


def write_run_info(run_dir: Path, protocol: Mapping[str, object]) -> None:
    """Writes what a run was made with, and what its numbers mean, to ``run.json``.

    Args:
        run_dir: Folder of the run.
        protocol: Environment, goals, horizon, episodes; anything that JSON can hold.
    """
    info = {
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "protocol": protocol,
        "versions": _versions(),
        "platform": platform.platform(),
        "git": _git_state(Path(mtrl_ntk.__file__).parent),
    }
    (run_dir / "run.json").write_text(json.dumps(info, indent=2) + "\n", encoding="utf-8")


class _CsvFile:
    """A CSV file whose first row fixes the columns."""

    def __init__(self, path: Path) -> None:
        try:
            self._file = path.open("x", newline="", encoding="utf-8")
        except FileExistsError:
            raise UserError(f"{path.parent} already holds a run; choose another folder") from None
        self._columns: tuple[str, ...] = ()

    def write(self, row: Mapping[str, object]) -> None:
        writer = csv.writer(self._file, lineterminator="\n")
        if not self._columns:
            self._columns = tuple(row)
            writer.writerow(self._columns)
        if unknown := row.keys() - set(self._columns):
            raise ValueError(f"{self._file.name} has no columns {sorted(unknown)}")
        writer.writerow([_cell(row.get(column)) for column in self._columns])
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def _cell(value: object) -> object:
    if not isinstance(value, float | np.floating):
        return value
    # Nine digits keep a float32 exactly.
    return "" if math.isnan(value) else f"{value:.9g}"


def _rows(result: EvaluationResult) -> list[tuple[str, float, float]]:
    successes, returns = result.success_rates.tolist(), result.mean_returns.tolist()
    rows = list(zip(result.task_names, successes, returns, strict=True))
    return [*rows, (MEAN_TASK, float(np.mean(successes)), float(np.mean(returns)))]


def _layout() -> dict[str, dict[str, tuple[str, list[str]]]]:
    """Groups the charts on TensorBoard's "Custom Scalars" page; tags are regular expressions."""
    success = {
        "evaluation": ("Multiline", ["charts/[^/]*_success_rate$"]),
        "training": ("Multiline", ["charts/training_success_rate/.*"]),
    }
    groups = {
        group: {net: ("Multiline", [f"{group}/{net}/.*"]) for net in ("critic", "actor")}
        for group in ("weights", "ntk", "losses")
    }
    return {"success": success, **groups}


def _versions() -> dict[str, str | None]:
    own = {"mtrl_ntk": mtrl_ntk.__version__, "python": platform.python_version()}
    return own | {package: _version(package) for package in PACKAGES}


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git_state(folder: Path) -> dict[str, object] | None:
    """Commit and cleanness of the checkout that the folder belongs to, if it belongs to one."""
    # Asking for a tracked file: a package installed below somebody's repository is not part of it.
    if _git(folder, "ls-files", "--error-unmatch", "__init__.py") is None:
        return None
    status = _git(folder, "status", "--porcelain", ".")
    return {
        "commit": _git(folder, "rev-parse", "--verify", "HEAD"),
        "dirty": None if status is None else bool(status),
    }


def _git(folder: Path, *arguments: str) -> str | None:
    command = ["git", "-C", str(folder), *arguments]
    try:
        output = subprocess.check_output(command, stderr=subprocess.DEVNULL, text=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return output.strip()
