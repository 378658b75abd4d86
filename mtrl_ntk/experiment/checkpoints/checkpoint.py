"""A checkpoint: a folder of safetensors and JSON, saved atomically and verified when loaded.

A checkpoint folder holds ``weights.safetensors``, which is the agent, ``manifest.json`` and, where
training can go on from it, ``training.safetensors``; nothing in it can run code. The manifest is
written last. It records the size and SHA-256 of every file and a SHA-256 of its own content.

A save writes the new folder ``.NAME.new`` beside the old one and flushes it to disk. It then
renames the old folder to ``.NAME.old`` and the new one to ``NAME``, and deletes the old one.
Between the two renames ``NAME`` is missing: loading then reads ``.NAME.old``, and the next save
puts it back. So at every moment, a power cut included, either the old or the new checkpoint
loads. Only one process at a time may save to a folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from mtrl_ntk.errors import UserError
from mtrl_ntk.experiment.files.atomic import flush_to_disk
from mtrl_ntk.experiment.options.values import shown

FORMAT = "mtrl_ntk checkpoint"
SCHEMA_VERSION = 1
MANIFEST = "manifest.json"
WEIGHTS = "weights.safetensors"
TRAINING = "training.safetensors"


class CheckpointError(UserError):
    """A folder that cannot be loaded, or must not be overwritten, as a checkpoint."""


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint folder holds."""

    tensors: dict[str, torch.Tensor]
    """Tensors by name, on the CPU."""
    metadata: dict[str, Any]
    """The metadata as JSON keeps it: tuples are lists, keys are strings."""
    training: dict[str, torch.Tensor]
    """Tensors that only further training needs, on the CPU."""


def save_checkpoint(
    folder: Path,
    tensors: Mapping[str, torch.Tensor],
    metadata: Mapping[str, object],
    training: Mapping[str, torch.Tensor] | None = None,
) -> None:
    """Saves a checkpoint atomically; an earlier one at the same place is replaced.

    Args:
        folder: The checkpoint folder; its parents are created.
        tensors: Tensors by name, on any device.
        metadata: Anything that JSON can hold.
        training: Tensors that only further training needs; left out, there is no file of them.

    Raises:
        CheckpointError: If the folder exists and is not a checkpoint; it is left as it is.
        OSError: If writing fails, for example on a full disk; an earlier checkpoint stays loadable.
    """
    folder = folder.resolve()
    folder.parent.mkdir(parents=True, exist_ok=True)
    _clear_interrupted_save(folder)
    _require_replaceable(folder)
    staging = _sibling(folder, "new")
    try:
        staging.mkdir()
        _write_tensors(staging / WEIGHTS, tensors)
        if training is not None:
            _write_tensors(staging / TRAINING, training)
        _write_manifest(staging, metadata)
        _swap(staging, folder)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise


def load_checkpoint(folder: Path) -> Checkpoint:
    """Loads a checkpoint and verifies every byte of it.

    Raises:
        CheckpointError: If the folder is missing, unfinished, damaged, foreign or too new.
    """
    path = folder.resolve()
    try:
        path = _loadable(path)
        manifest = _read_manifest(path)
        _verify_files(path, manifest["files"])
        training = _load_tensors(path / TRAINING) if TRAINING in manifest["files"] else {}
        return Checkpoint(_load_tensors(path / WEIGHTS), manifest["metadata"], training)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error


def read_metadata(folder: Path) -> dict[str, Any]:
    """Reads the metadata of a checkpoint; verifies them, but of the other files only their sizes.

    Raises:
        CheckpointError: As for :func:`load_checkpoint`.
    """
    path = folder.resolve()
    try:
        path = _loadable(path)
        manifest = _read_manifest(path)
        for file, expected in _files(path, manifest["files"]):
            if file.stat().st_size != expected.get("size"):
                raise CheckpointError(f"{path} is damaged: {file.name} has another size")
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    metadata: dict[str, Any] = manifest["metadata"]
    return metadata


def _write_tensors(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    # Cloned: safetensors refuses tensors that share memory, as views of one parameter do.
    cpu = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    # Not by save_file, whose files are their user's alone.
    path.write_bytes(save(cpu))


def _load_tensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, RuntimeError, ValueError, LookupError) as error:
        # All but the first: sizes and types that safetensors allows and PyTorch does not.
        raise CheckpointError(f"{path.parent} is damaged: {path.name} holds no tensors") from error


def _write_manifest(staging: Path, metadata: Mapping[str, object]) -> None:
    manifest = {
        "format": FORMAT,
        "schema_version": SCHEMA_VERSION,
        "metadata": dict(metadata),
        "files": {path.name: _fingerprint(path) for path in sorted(staging.iterdir())},
    }
    manifest["sha256"] = _digest(manifest)
    (staging / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    for path in (*staging.iterdir(), staging):
        flush_to_disk(path)


def _swap(staging: Path, folder: Path) -> None:
    retired = _sibling(folder, "old")
    if folder.exists():
        os.replace(folder, retired)
    try:
        os.replace(staging, folder)
    except OSError:
        if retired.exists():
            os.replace(retired, folder)
        raise
    flush_to_disk(folder.parent)
    shutil.rmtree(retired, ignore_errors=True)


def _clear_interrupted_save(folder: Path) -> None:
    retired = _sibling(folder, "old")
    if retired.exists() and not folder.exists():
        os.replace(retired, folder)
    for leftover in (retired, _sibling(folder, "new")):
        if leftover.exists():
            shutil.rmtree(leftover)


def _require_replaceable(folder: Path) -> None:
    """Keeps a mistyped path from deleting somebody's files."""
    if not folder.exists():
        return
    if not folder.is_dir() or (any(folder.iterdir()) and not _looks_like_checkpoint(folder)):
        raise CheckpointError(f"{folder} exists and is not a checkpoint: not overwritten")


def _looks_like_checkpoint(folder: Path) -> bool:
    return {path.name for path in folder.iterdir()} >= {MANIFEST, WEIGHTS}


def _loadable(folder: Path) -> Path:
    retired = _sibling(folder, "old")
    path = retired if retired.is_dir() and not folder.exists() else folder
    if not path.exists():
        raise CheckpointError(f"no checkpoint at {folder}")
    if not path.is_dir():
        raise CheckpointError(f"{folder} is a file; a checkpoint is a folder with a {MANIFEST}")
    if not (path / MANIFEST).is_file():
        raise CheckpointError(f"{folder} is not a finished checkpoint: it has no {MANIFEST}")
    return path


def _read_manifest(folder: Path) -> dict[str, Any]:
    require_memory(folder / MANIFEST, (folder / MANIFEST).stat().st_size)
    try:
        manifest: Any = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        is_ours = isinstance(manifest, dict) and manifest.get("format") == FORMAT
        digest = _digest({k: v for k, v in manifest.items() if k != "sha256"}) if is_ours else ""
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{folder} is damaged: {MANIFEST} is not valid JSON") from error
    if not is_ours:
        raise CheckpointError(f"{folder} was not written by mtrl_ntk")
    if manifest.get("schema_version") != SCHEMA_VERSION:
        raise CheckpointError(
            f"{folder} was written by another version of mtrl_ntk: its schema is "
            f"{shown(manifest.get('schema_version'))}, this version reads {SCHEMA_VERSION}"
        )
    if manifest.get("sha256") != digest:
        raise CheckpointError(f"{folder} is damaged: {MANIFEST} does not match its own hash")
    files, metadata = manifest.get("files"), manifest.get("metadata")
    if not isinstance(metadata, dict) or not isinstance(files, dict) or WEIGHTS not in files:
        raise CheckpointError(f"{folder} is damaged: {MANIFEST} names no {WEIGHTS} or metadata")
    result: dict[str, Any] = manifest
    return result


def _verify_files(folder: Path, files: Mapping[str, object]) -> None:
    for path, expected in _files(folder, files):
        require_memory(path, size := path.stat().st_size)
        if size != expected.get("size") or _fingerprint(path) != expected:
            raise CheckpointError(f"{folder} is damaged: {path.name} does not match its hash")


def _files(folder: Path, files: Mapping[str, object]) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """The files that a manifest names and what it says of them."""
    for name, expected in files.items():
        path = folder / name
        if path.name != name or not isinstance(expected, Mapping):
            raise CheckpointError(f"{folder} is damaged: {shown(name)} is no file in it")
        if not path.is_file():
            raise CheckpointError(f"{folder} is damaged: {name[:255]} is missing")
        yield path, expected


def _fingerprint(path: Path) -> dict[str, object]:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return {"size": path.stat().st_size, "sha256": digest.hexdigest()}


def _digest(manifest: Mapping[str, object]) -> str:
    # Through JSON once, so that writer and reader hash the same thing: keys become strings.
    canonical = json.dumps(json.loads(json.dumps(manifest)), sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


def require_memory(path: Path, size: int) -> None:
    """Refuses a file that could not be held, before it is read.

    Raises:
        CheckpointError: If it is larger than the memory that is free.
    """
    available = psutil.virtual_memory().available
    if size > available:
        raise CheckpointError(
            f"{path} has {size / 1e9:.0f} GB, and {available / 1e9:.0f} GB of memory are free"
        )


def _sibling(folder: Path, suffix: str) -> Path:
    return folder.with_name(f".{folder.name}.{suffix}")
