"""Which checkpoint a run goes on from, and what may have changed since."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtrl_ntk.errors import ConfigError
from mtrl_ntk.experiment.checkpoints.archive import (
    Found,
    checkpoints,
    is_replay_dropped,
    load_newest,
)
from mtrl_ntk.experiment.checkpoints.checkpoint import MANIFEST, CheckpointError, read_metadata
from mtrl_ntk.experiment.config import FIXED, NEWEST, to_dict
from mtrl_ntk.experiment.families import Configuration, command_of
from mtrl_ntk.experiment.files.layout import CHECKPOINT


@dataclass(frozen=True)
class Start:
    """What a resumed run starts with."""

    run_dir: Path
    """Folder in which it goes on."""
    found: Found | None
    """Its checkpoint; None if the run was to be resumed before it had one."""
    continues: bool
    """Whether the logs in the folder are those of the checkpoint."""
    changes: tuple[str, ...] = ()
    """What differs from the configuration that the checkpoint was made with, in words."""


def find_start(config: Configuration) -> Start | None:
    """Finds the checkpoint that a configuration asks for; None if it asks for none.

    Raises:
        CheckpointError: If it cannot be loaded, or does not fit the configuration.
    """
    if config.resume is None:
        return None
    source = _source(config.resume, config.run_dir)
    run_dir = resumed_folder(config.resume, config.run_dir)
    if config.resume == NEWEST and not _holds_any(source):
        return Start(run_dir, None, continues=True)
    found = load_newest(source, replay=True)
    if not found.checkpoint.training:
        raise CheckpointError(f"{found.folder} holds an agent only: no run can go on from it")
    archive = (run_dir / CHECKPOINT).resolve()
    return Start(
        run_dir,
        found,
        continues=found.folder.resolve().parent == archive,
        changes=_allowed_changes(config, found),
    )


def require_replay(start: Start | None) -> None:
    """Refuses to go on from a run whose replay was dropped.

    Raises:
        CheckpointError: If it was.
    """
    if start is None or start.found is None:
        return
    folder, checkpoint = start.found
    if is_replay_dropped(folder, checkpoint.metadata):
        raise CheckpointError(
            f"{folder} lacks its replay, which --drop-replay removes at the end of a run: it can "
            "be evaluated, filmed and reported, but no run can go on from it; start a new one in "
            "another --run-dir"
        )


def resumed_folder(resume: Path, run_dir: Path | None) -> Path:
    """The folder in which a resumed run goes on.

    Raises:
        ConfigError: If it is not clear which.
    """
    return run_dir or _run_dir_of(_source(resume, run_dir))


def settings_of(resume: Path, run_dir: Path | None) -> tuple[str, Mapping[str, object]]:
    """The settings of the run that is resumed, by name, and where they stand.

    Only the manifest is read: tensors wait until it is sure that they are wanted.

    Raises:
        ConfigError: If it is not clear which run is meant.
    """
    source = _source(resume, run_dir)
    for path in [source, *reversed(checkpoints(source))]:
        try:
            settings = read_metadata(path).get("config")
        except CheckpointError:
            continue
        if isinstance(settings, dict):
            return str(path / MANIFEST), settings
    return str(source), {}


def _source(resume: Path, run_dir: Path | None) -> Path:
    """A folder of checkpoints, or a single one."""
    if resume == NEWEST:
        if run_dir is None:
            raise ConfigError("--resume needs --run-dir, or the path of a run or a checkpoint")
        return run_dir / CHECKPOINT
    inside = resume / CHECKPOINT
    return inside if inside.is_dir() else resume


def _run_dir_of(source: Path) -> Path:
    for folder in (source.resolve(), source.resolve().parent):
        if folder.name == CHECKPOINT:
            return folder.parent
    if not source.exists():
        raise ConfigError(f"{source} does not exist; --resume wants a run or a checkpoint")
    if _holds_any(source):
        raise ConfigError(
            f"{source} is in no run's folder; say with --run-dir where the run goes on"
        )
    raise ConfigError(f"{source} holds no checkpoint that a run could go on from")


def _holds_any(source: Path) -> bool:
    return (source / MANIFEST).exists() or bool(checkpoints(source))


def _allowed_changes(config: Configuration, found: Found) -> tuple[str, ...]:
    """What has changed, in words.

    Raises:
        CheckpointError: If something has that may not.
    """
    changes = _changes(config, found)
    refused = [text for name, text in changes.items() if name in to_dict(config, FIXED)]
    if refused:
        raise CheckpointError(
            f"cannot go on from {found.folder} with another configuration: {'; '.join(refused)}; "
            "leave these options out, or start a new run in another --run-dir"
        )
    return tuple(changes.values())


def _changes(config: Configuration, found: Found) -> dict[str, str]:
    settings = found.checkpoint.metadata.get("config")
    if not isinstance(settings, dict):
        raise CheckpointError(f"{found.folder} does not say what it was configured with")
    if command_of(settings) != config.family.command:
        raise CheckpointError(f"{found.folder} is of no run of {config.family.command}")
    now: dict[str, Any] = to_dict(config)
    if settings.get("method") != now["method"]:
        return {"method": f"method was {settings.get('method')}, is {now['method']}"}
    config_before = config.family.from_dict(settings, str(found.folder))
    before = to_dict(config_before)
    changes = {
        name: f"{name} was {before[name]}, is {value}"
        for name, value in now.items()
        if value != before[name] and name not in ("run_dir", "resume", "preset")
    }
    return changes | config.changes_since(config_before)
