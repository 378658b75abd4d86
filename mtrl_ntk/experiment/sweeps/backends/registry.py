"""The backends by name."""

from __future__ import annotations

from pathlib import Path

from mtrl_ntk.errors import UserError
from mtrl_ntk.experiment.sweeps.backends.job import Backend
from mtrl_ntk.experiment.sweeps.backends.local import LocalBackend
from mtrl_ntk.experiment.sweeps.options import Resources, SweepOptions, minutes
from mtrl_ntk.experiment.sweeps.runs import JobsPlan


def make_backend(options: SweepOptions, plan: JobsPlan, logs: Path) -> Backend:
    """Makes the backend that a sweep asks for.

    Args:
        options: The sweep's options.
        plan: What each run has.
        logs: Folder of the runs' outputs.

    Raises:
        UserError: If it is not installed, or there is none here.
    """
    if options.backend == "local":
        return LocalBackend()
    resources = Resources(
        plan.cores // plan.jobs,
        options.gpus,
        options.mem,
        minutes(options.time),
        options.partition,
    )
    try:
        if options.backend == "ray":
            from mtrl_ntk.experiment.sweeps.backends.ray import RayBackend

            return RayBackend(resources)
        from mtrl_ntk.experiment.sweeps.backends.slurm import SlurmBackend

        return SlurmBackend(resources, logs)
    except ModuleNotFoundError as error:
        package = {"ray": "ray", "slurm": "submitit"}[options.backend]
        if error.name != package:
            raise
        raise UserError(
            f"--backend {options.backend} needs the package {package}: pip install {package}"
        ) from None
