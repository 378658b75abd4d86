"""A checkpoint is whole or it is an error, whatever interrupts the save."""

from __future__ import annotations

import errno
import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mtrl_ntk.errors import UserError
from mtrl_ntk.experiment.checkpoints.checkpoint import (
    MANIFEST,
    WEIGHTS,
    CheckpointError,
    load_checkpoint,
    save_checkpoint,
)


class Killed(BaseException):
    """Stands for SIGKILL."""


class Process:
    """Dies at one given file operation; a dead process does nothing more, no clean-up either."""

    def __init__(self, operations_to_live: int) -> None:
        self.remaining = operations_to_live

    def mortal(self, operation: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **kwargs: object) -> object:
            if self.remaining <= 0:
                raise Killed
            self.remaining -= 1
            return operation(*args, **kwargs)

        return call


def save(folder: Path, step: int) -> None:
    save_checkpoint(folder, {"weight": torch.full((3, 2), float(step))}, {"step": step})


def loaded_step(folder: Path) -> int:
    loaded = load_checkpoint(folder)
    step = int(loaded.metadata["step"])
    assert torch.equal(loaded.tensors["weight"], torch.full((3, 2), float(step)))
    return step


def rewrite_manifest(folder: Path, **changes: object) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(manifest | changes))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "run" / "checkpoint"
    save(path, step=1)
    return path


def test_tensors_and_metadata_come_back_exactly(tmp_path: Path) -> None:
    base = torch.randn(4, 6, requires_grad=True)
    tensors = {
        "parameter": base,
        "transposed": base.t(),
        "row": base[1],
        "same storage": base,
        "half": torch.randn(3, dtype=torch.bfloat16),
        "double": torch.randn(2, dtype=torch.float64),
        "random state": torch.get_rng_state(),
        "scalar": torch.tensor(7),
        "mask": torch.tensor([True, False]),
        "empty": torch.zeros(0, 5),
    }
    metadata = {"step": 3, "protocol": {"goals": "random", "tasks": ["a", "b"]}, "best": 0.1}
    save_checkpoint(tmp_path / "saved", tensors, metadata)
    loaded = load_checkpoint(tmp_path / "saved")
    assert loaded.tensors.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert loaded.tensors[name].dtype == tensor.dtype
        assert torch.equal(loaded.tensors[name], tensor)
    assert loaded.metadata == metadata


def test_metadata_comes_back_as_json_keeps_it(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "saved", {}, {"seeds": {10: "b", 9: "a"}, "shape": (1, 2)})
    assert load_checkpoint(tmp_path / "saved").metadata == {
        "seeds": {"10": "b", "9": "a"},
        "shape": [1, 2],
    }


def test_other_tools_can_read_the_files(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == {WEIGHTS, MANIFEST}
    assert load_file(folder / WEIGHTS)["weight"].shape == (3, 2)
    manifest = json.loads((folder / MANIFEST).read_text())
    assert manifest["schema_version"] == 1
    assert manifest["files"][WEIGHTS]["size"] == (folder / WEIGHTS).stat().st_size


def test_a_later_save_replaces_the_earlier_and_leaves_nothing_else(folder: Path) -> None:
    save(folder, step=2)
    assert loaded_step(folder) == 2
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_relative_and_linked_paths_reach_the_same_checkpoint(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = folder.parent / "latest"
    link.symlink_to(folder)
    monkeypatch.chdir(folder)
    save(Path(), step=2)
    assert loaded_step(link) == 2
    save(link, step=3)
    assert link.is_symlink()
    assert loaded_step(folder) == 3


@pytest.mark.parametrize("exists", [True, False], ids=["over an old one", "first"])
def test_a_save_killed_at_any_point_leaves_the_old_or_the_new(tmp_path: Path, exists: bool) -> None:
    steps: list[int | None] = []
    killed = True
    while killed:
        folder = tmp_path / str(len(steps)) / "checkpoint"
        if exists:
            save(folder, step=1)
        killed = save_and_die(folder, operations_to_live=len(steps))
        steps.append(step_or_none(folder))
        save(folder, step=3)
        assert loaded_step(folder) == 3
        assert [path.name for path in folder.parent.iterdir()] == [folder.name]
    assert steps == sorted(steps, key=lambda step: step or 0)
    assert set(steps) == ({1, 2} if exists else {None, 2})
    assert len(steps) > 8


def test_a_save_killed_after_a_save_was_killed_loses_nothing(tmp_path: Path) -> None:
    for lifetime in range(5):
        folder = tmp_path / str(lifetime) / "checkpoint"
        save(folder, step=1)
        folder.rename(folder.with_name(".checkpoint.old"))
        assert loaded_step(folder) == 1
        assert save_and_die(folder, operations_to_live=lifetime)
        assert loaded_step(folder) == 1


def save_and_die(folder: Path, operations_to_live: int) -> bool:
    process = Process(operations_to_live)
    with pytest.MonkeyPatch.context() as patch:
        for module, name in [
            (os, "replace"),
            (os, "fsync"),
            (os, "close"),
            (shutil, "rmtree"),
            (Path, "mkdir"),
            (Path, "write_text"),
            (Path, "write_bytes"),
        ]:
            patch.setattr(module, name, process.mortal(getattr(module, name)))
        try:
            save(folder, step=2)
        except Killed:
            return True
    return False


def step_or_none(folder: Path) -> int | None:
    try:
        return loaded_step(folder)
    except CheckpointError:
        return None


@pytest.mark.parametrize("name", ["replace", "fsync"])
@pytest.mark.parametrize("failing_call", range(4))
def test_a_failing_disk_raises_and_leaves_a_loadable_checkpoint(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, failing_call: int
) -> None:
    operation, calls = getattr(os, name), iter(range(100))

    def fail_once(*args: object) -> None:
        if next(calls) == failing_call:
            raise OSError(errno.ENOSPC, "No space left on device")
        operation(*args)

    monkeypatch.setattr(os, name, fail_once)
    total = {"replace": 2, "fsync": 4}[name]
    if failing_call < total:
        with pytest.raises(OSError, match="No space left"):
            save(folder, step=2)
    else:
        save(folder, step=2)
    assert folder.is_dir()
    committed = failing_call >= (2 if name == "replace" else 3)
    assert loaded_step(folder) == (2 if committed else 1)
    assert not (folder.parent / f".{folder.name}.new").exists()


def test_metadata_that_json_cannot_hold_leaves_the_old_checkpoint(folder: Path) -> None:
    with pytest.raises(TypeError):
        save_checkpoint(folder, {}, {"path": Path("x")})
    assert loaded_step(folder) == 1
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


@pytest.mark.parametrize("name", [WEIGHTS, MANIFEST])
def test_every_corrupt_byte_is_noticed(folder: Path, name: str) -> None:
    path = folder / name
    content = path.read_bytes()
    original = json.loads(content) if name == MANIFEST else None
    for position in range(len(content)):
        damaged = bytearray(content)
        damaged[position] ^= 0x10
        path.write_bytes(damaged)
        if name == MANIFEST and same_json(damaged, original):
            continue
        with pytest.raises(CheckpointError):
            load_checkpoint(folder)


def same_json(text: bytes | bytearray, original: object) -> bool:
    try:
        return bool(json.loads(text) == original)
    except ValueError:
        return False


def truncate_weights(folder: Path) -> None:
    os.truncate(folder / WEIGHTS, 40)


def swap_weights_for_pickle(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(pickle.dumps({"weight": 1}))


def remove_everything(folder: Path) -> None:
    shutil.rmtree(folder)


def become_a_file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("hello")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (remove_everything, "no checkpoint at"),
        (become_a_file, "is a file"),
        (lambda folder: (folder / MANIFEST).unlink(), "not a finished checkpoint"),
        (lambda folder: (folder / WEIGHTS).unlink(), f"{WEIGHTS} is missing"),
        (truncate_weights, f"{WEIGHTS} does not match"),
        (swap_weights_for_pickle, f"{WEIGHTS} does not match"),
        (lambda folder: (folder / MANIFEST).write_bytes(b"\xff\x00"), "not valid JSON"),
        (lambda folder: (folder / MANIFEST).write_text("[" * 100_000), "not valid JSON"),
        (lambda folder: (folder / MANIFEST).write_text("[]"), "not written by mtrl_ntk"),
        (lambda folder: rewrite_manifest(folder, format="other"), "not written by mtrl_ntk"),
        (lambda folder: rewrite_manifest(folder, schema_version=2), "its schema is 2"),
        (lambda folder: rewrite_manifest(folder, metadata={"step": 9}), "its own hash"),
        (lambda folder: rewrite_manifest(folder, files={}), "its own hash"),
    ],
)
def test_what_is_no_whole_checkpoint_is_one_clear_line(
    folder: Path, damage: Callable[[Path], object], message: str
) -> None:
    damage(folder)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_checkpoint(folder)
    assert isinstance(caught.value, UserError)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize("as_file", [True, False])
def test_a_save_never_overwrites_what_is_no_checkpoint(tmp_path: Path, as_file: bool) -> None:
    precious = tmp_path / "home"
    if as_file:
        precious.write_text("kept")
    else:
        precious.mkdir()
        (precious / "thesis.tex").write_text("kept")
    with pytest.raises(CheckpointError, match="not overwritten"):
        save(precious, step=1)
    assert (precious if as_file else precious / "thesis.tex").read_text() == "kept"


def test_an_empty_folder_becomes_a_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "checkpoint").mkdir()
    save(tmp_path / "checkpoint", step=1)
    assert loaded_step(tmp_path / "checkpoint") == 1
