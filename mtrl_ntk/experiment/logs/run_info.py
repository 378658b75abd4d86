"""How a run was made: its protocol, and what it ran with."""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from types import MappingProxyType
from typing import Any

from mtrl_ntk.experiment.files import atomic
from mtrl_ntk.experiment.files.layout import RUN_INFO
from mtrl_ntk.experiment.types import Counts
from mtrl_ntk.version import PACKAGE_FOLDER, __version__


def write_run_info(
    run_dir: Path,
    protocol: Mapping[str, object],
    packages: Sequence[str],
    more: Mapping[str, object] = MappingProxyType({}),
) -> None:
    """Writes what a run was made with, and what its numbers mean, to ``run.json``.

    Args:
        run_dir: Folder of the run.
        protocol: Environment, goals, horizon, episodes; anything that JSON can hold.
        packages: Those that decide about its numbers, besides torch and NumPy.
        more: What else readers of its numbers need.
    """
    info = {"started": _now(), "protocol": protocol, **more, **_circumstances(packages)}
    _write_info(run_dir, info)


def add_resumption(
    run_dir: Path,
    protocol: Mapping[str, object],
    counters: Counts,
    packages: Sequence[str],
    more: Mapping[str, object] = MappingProxyType({}),
) -> None:
    """Adds to ``run.json`` when, where and with what a run went on after so many steps.

    Its protocol is the one from then on, as another end may have been set.
    """
    info = {**_read_info(run_dir), "protocol": protocol, **more}
    this = {"time": _now(), fields(counters)[0].name: counters.step, **_circumstances(packages)}
    before = info.get("resumed")
    _write_info(run_dir, {**info, "resumed": [*(before if isinstance(before, list) else []), this]})


def _read_info(run_dir: Path) -> dict[str, Any]:
    try:
        info = json.loads((run_dir / RUN_INFO).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        # Lost or damaged: no reason not to train.
        return {}
    return info if isinstance(info, dict) else {}


def _write_info(run_dir: Path, info: Mapping[str, object]) -> None:
    atomic.write(run_dir / RUN_INFO, json.dumps(info, indent=2) + "\n")


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _circumstances(packages: Sequence[str]) -> dict[str, Any]:
    return {
        "versions": versions(packages),
        "platform": platform.platform(),
        "git": _git_state(PACKAGE_FOLDER),
    }


def versions(packages: Sequence[str]) -> dict[str, str | None]:
    """Versions of what decides about a run's numbers."""
    own = {"mtrl_ntk": __version__, "python": platform.python_version()}
    return own | {package: _version(package) for package in ("torch", *packages, "numpy")}


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
