"""Diagnoses of the extended tangent kernel during a run: computed, kept, and read again."""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from mtrl_ntk.balancing import Jacobian
from mtrl_ntk.balancing.affinity import (
    affinity,
    condition_numbers,
    coupling,
    extended_kernel,
    off_diagonal_mean,
    spectra,
    spectrum,
)
from mtrl_ntk.errors import UserError
from mtrl_ntk.experiment.files.atomic import replacing
from mtrl_ntk.experiment.files.layout import KERNELS
from mtrl_ntk.experiment.types import Counters
from mtrl_ntk.rl.sac import Part

PARTS: tuple[Part, ...] = get_args(Part)
"""The networks that have a kernel each."""


@dataclass(frozen=True)
class Diagnosis:
    """The extended kernel of a network at one moment of a run, and what follows from it."""

    task_names: npt.NDArray[np.str_]
    """Names in the order of the tasks' axes."""
    vector_steps: int
    """Steps of the vector environment so far."""
    env_steps: int
    """Steps of all environments so far."""
    updates: int
    """Gradient updates so far."""
    extended_kernel: npt.NDArray[np.float32]
    """Inner products of all mini-batch gradients, ``[tasks, n, tasks, n]``."""
    eigenvalues: npt.NDArray[np.float64]
    """Of each task's kernel, the largest first, ``[tasks, n]``."""
    condition_numbers: npt.NDArray[np.float64]
    """Of each task's kernel; NaN for a task without a gradient, ``[tasks]``."""
    condition_number: float
    """Of the extended kernel."""
    imbalance: float
    """Ratio of the largest to the smallest of the tasks' largest eigenvalues."""
    affinity: npt.NDArray[np.float64]
    """Cosines between the tasks' gradients, ``[tasks, tasks]``."""
    coupling: npt.NDArray[np.float64]
    """Strengths of the blocks between the tasks, ``[tasks, tasks]``."""
    mean_affinity: float
    """Mean affinity of two different tasks; NaN for a single task."""
    mean_coupling: float
    """Mean coupling of two different tasks; NaN for a single task."""

    def scalars(self, part: Part) -> dict[str, float]:
        """The numbers to plot over training, by tag."""
        named = {
            f"kernels/{part}/{name}": float(getattr(self, name))
            for name in ("condition_number", "imbalance", "mean_affinity", "mean_coupling")
        }
        per_task = {
            "largest_eigenvalue": self.eigenvalues[:, 0],
            "condition_number": self.condition_numbers,
        }
        return named | {
            f"kernels/{part}/{name}/{task}": float(value)
            for name, values in per_task.items()
            for task, value in zip(self.task_names, values, strict=True)
        }


def diagnose(jacobian: Jacobian, task_names: Sequence[str], counters: Counters) -> Diagnosis:
    """Takes the extended kernel of a Jacobian apart; waits for the device.

    Args:
        jacobian: Several rows per task, so that its kernels have a spectrum.
        task_names: Names in the order of the tasks.
        counters: How far the run is.
    """
    num_tasks = jacobian.num_tasks
    kernel = extended_kernel(jacobian.rows()).cpu()
    eigenvalues = spectra(kernel, num_tasks)
    similarity, strength = affinity(kernel, num_tasks), coupling(kernel, num_tasks)
    rows = (num_tasks, jacobian.num_minibatches)
    return Diagnosis(
        task_names=np.array(task_names),
        vector_steps=counters.vector_steps,
        env_steps=counters.env_steps,
        updates=counters.updates,
        extended_kernel=kernel.view(*rows, *rows).float().numpy(),
        eigenvalues=eigenvalues.numpy(),
        condition_numbers=condition_numbers(eigenvalues).numpy(),
        condition_number=float(condition_numbers(spectrum(kernel))),
        imbalance=float(condition_numbers(eigenvalues[:, 0].sort(descending=True).values)),
        affinity=similarity.numpy(),
        coupling=strength.numpy(),
        mean_affinity=float(off_diagonal_mean(similarity)),
        mean_coupling=float(off_diagonal_mean(strength)),
    )


def save_diagnosis(run_dir: Path, part: Part, diagnosis: Diagnosis) -> Path:
    """Writes a diagnosis into the folder of a run, whole or not at all; returns the file."""
    folder = run_dir / KERNELS
    folder.mkdir(exist_ok=True)
    path = folder / f"{part}-{diagnosis.updates:08d}.npz"
    with replacing(path) as unfinished:
        np.savez_compressed(unfinished, **asdict(diagnosis))
    return path


def load_diagnoses(run_dir: Path, part: Part) -> list[Diagnosis]:
    """Reads the diagnoses of a run in their order; none if it has none.

    Raises:
        UserError: If a file cannot be read as a diagnosis.
    """
    paths = (run_dir / KERNELS).glob(f"{part}-*.npz")
    return sorted(map(_load, paths), key=lambda diagnosis: diagnosis.updates)


def _load(path: Path) -> Diagnosis:
    try:
        if not path.is_file():
            raise ValueError("it is not a file")
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > _MOST_BYTES:
            raise ValueError(f"it holds {size / 1e9:.0f} GB")
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            diagnosis = Diagnosis(**{f.name: _value(arrays[f.name]) for f in fields(Diagnosis)})
        _check(diagnosis)
    except _DAMAGES as error:
        raise UserError(f"{path} is damaged, or no diagnosis of kernels: {error}") from error
    return diagnosis


_MOST_BYTES = 1 << 30
_DAMAGES = (
    *(OSError, ValueError, LookupError, EOFError, MemoryError, TypeError),
    *(zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, struct.error),
)
"""What zipfile, zlib and NumPy raise on files that are not what they say."""


def _check(diagnosis: Diagnosis) -> None:
    """Checks that the parts are of one size, and of the types that reports count on.

    Raises:
        ValueError: If they are not.
    """
    kernel = diagnosis.extended_kernel
    k, n = kernel.shape[:2]
    shapes = {
        "task_names": (k,),
        "extended_kernel": (k, n, k, n),
        "eigenvalues": (k, n),
        "condition_numbers": (k,),
        "affinity": (k, k),
        "coupling": (k, k),
    }
    for name, shape in shapes.items():
        array = getattr(diagnosis, name)
        kind = "U" if name == "task_names" else "f"
        if k == 0 or n == 0 or array.shape != shape or array.dtype.kind != kind:
            raise ValueError(f"{name} is {array.dtype} {array.shape}")
    for field in fields(diagnosis):
        value = getattr(diagnosis, field.name)
        if field.name not in shapes and type(value).__name__ != field.type:
            raise ValueError(f"{field.name} is {value}")


def _value(array: npt.NDArray[Any]) -> Any:  # noqa: ANN401 - the fields have many types
    """An array, or the number that an array without axes holds."""
    return array if array.ndim else array.item()
