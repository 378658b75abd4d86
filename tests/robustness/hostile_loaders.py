"""What reads files of strangers, each with valid files and a way to spoil them."""

from __future__ import annotations

import csv
import hashlib
import json
import random
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mtrl_ntk.balancing.methods import METHODS
from mtrl_ntk.experiment.agents import load_trained
from mtrl_ntk.experiment.checkpoints import segments
from mtrl_ntk.experiment.checkpoints.archive import Archive, checkpoints, load_newest, segments_of
from mtrl_ntk.experiment.checkpoints.checkpoint import (
    MANIFEST,
    TRAINING,
    WEIGHTS,
    _digest,
    load_checkpoint,
    read_metadata,
)
from mtrl_ntk.experiment.config import defaults, read, save
from mtrl_ntk.experiment.files.csv_files import read_rows
from mtrl_ntk.experiment.kernels.diagnosis import Diagnosis, load_diagnoses, save_diagnosis
from mtrl_ntk.experiment.logs.csv_sink import success_rates
from mtrl_ntk.experiment.options.fields import Option, options
from mtrl_ntk.experiment.options.values import convert
from mtrl_ntk.experiment.plots import run_plots as plots
from mtrl_ntk.experiment.reports.data import read_run
from mtrl_ntk.experiment.sweeps.options import read_sweep
from mtrl_ntk.experiment.sweeps.runs import last_logged_step, saved_step
from mtrl_ntk.experiment.training.command import load
from mtrl_ntk.rl.replay import MultiTaskReplayBuffer
from tests.experiment.run_folders import make_config, write_run_folder
from tests.robustness.mutations import ODD, altered, as_json, damaged
from tests.saved import save_run

Spoil = Callable[[random.Random, Path], None]


@dataclass(frozen=True)
class Loader:
    """A reader, its valid input, and ways to spoil it."""

    prepare: Callable[[Path], object]
    """Writes valid files into an empty folder."""
    spoil: Spoil
    """Spoils them."""
    read: Callable[[Path], object]
    """Reads them, and looks at what it got."""
    weight: int = 4
    """Share of all inputs."""
    valid: dict[str, bytes] = field(default_factory=dict)
    """The valid files, once they were written."""

    def restore(self, folder: Path) -> None:
        """Puts the valid files back."""
        if not folder.exists():
            self.valid.clear()
            folder.mkdir()
            self.prepare(folder)
            for path in folder.rglob("*"):
                if path.is_file():
                    self.valid[str(path.relative_to(folder))] = path.read_bytes()
        for name, content in self.valid.items():
            path = folder / name
            if path.is_symlink() or path.is_dir():
                path.unlink() if path.is_symlink() else shutil.rmtree(path)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def bytes_of(*names: str) -> Spoil:
    """Spoils the bytes of one of some files, or what kind of file it is."""

    def spoil(rng: random.Random, folder: Path) -> None:
        path = next(iter(sorted(folder.rglob(rng.choice(names)))))
        if rng.random() < 0.02:
            _replace_file(rng, path)
        else:
            path.write_bytes(damaged(rng, path.read_bytes()))

    return spoil


def _replace_file(rng: random.Random, path: Path) -> None:
    path.unlink()
    kind = rng.randrange(5)
    if kind == 0:
        path.mkdir()
    elif kind == 1:
        path.symlink_to("/etc/hostname")
    elif kind == 2:
        path.symlink_to("/dev/zero")
    elif kind == 3:
        with path.open("wb") as file:
            file.truncate(1 << 42)  # four terabytes that take no room


def json_of(name: str, *, seal: bool = False) -> Spoil:
    """Spoils what a JSON file says; the hash that a manifest has of itself is then right again."""

    def spoil(rng: random.Random, folder: Path) -> None:
        path = next(iter(sorted(folder.rglob(name))))
        value = altered(rng, json.loads(path.read_bytes()))
        write_json(path, value, seal=seal)

    return spoil


def write_json(path: Path, value: Any, *, seal: bool) -> None:  # noqa: ANN401
    if seal and isinstance(value, dict):
        value.pop("sha256", None)
        try:
            value["sha256"] = _digest(value)
        except (ValueError, RecursionError):
            return
    content = as_json(value)
    if content is not None:
        path.write_bytes(content)


def sealed_tensors(rng: random.Random, folder: Path) -> None:
    """Spoils tensors and writes their right hash into the manifest."""
    manifest = next(folder.rglob(MANIFEST))
    name = rng.choice([WEIGHTS, TRAINING])
    path = manifest.parent / name
    path.write_bytes(_altered_tensors(rng, path.read_bytes()))
    value = json.loads(manifest.read_bytes())
    value["files"][name] = _fingerprint(path)
    write_json(manifest, value, seal=True)


def sealed_segment(rng: random.Random, folder: Path) -> None:
    """Spoils transitions, or what is said of them, and writes the right hashes everywhere."""
    manifest = next(folder.rglob(MANIFEST))
    value = json.loads(manifest.read_bytes())
    entry = rng.choice(value["metadata"]["replay"])
    path = folder / "replay" / entry["file"]
    if rng.random() < 0.5:
        path.write_bytes(_altered_tensors(rng, path.read_bytes()))
        entry |= _fingerprint(path)
    else:
        value["metadata"]["replay"] = altered(rng, value["metadata"]["replay"])
    write_json(manifest, value, seal=True)


def _fingerprint(path: Path) -> dict[str, Any]:
    content = path.read_bytes()
    return {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def _altered_tensors(rng: random.Random, content: bytes) -> bytes:
    """Spoils the bytes, or what the header says of shapes, types and offsets."""
    if rng.random() < 0.3:
        return damaged(rng, content)
    length = int.from_bytes(content[:8], "little")
    header = altered(rng, json.loads(content[8 : 8 + length]))
    if isinstance(header, dict) and header and rng.random() < 0.4:
        entry = header[rng.choice(list(header))]
        if isinstance(entry, dict):
            entry["dtype"] = rng.choice(
                ["F8_E4M3", "BOOL", "U64", "F64", "BF16", "I8", "C64", "F4"]
            )
    written = as_json(header)
    if written is None:
        return content
    return len(written).to_bytes(8, "little") + written + content[8 + length :]


def one_of(*spoils: Spoil) -> Spoil:
    """Spoils in one of several ways."""
    return lambda rng, folder: rng.choice(spoils)(rng, folder)


def odd_cells(*names: str) -> Spoil:
    """Puts odd values into cells of a CSV file, or takes away a column."""

    def spoil(rng: random.Random, folder: Path) -> None:
        path = folder / rng.choice(names)
        rows = list(csv.reader(path.read_text().splitlines()))
        row = rng.choice(rows)
        cell = rng.randrange(len(row))
        if rng.random() < 0.2:
            for one in rows:
                del one[cell]
        else:
            row[cell] = str(rng.choice([*ODD[:6], *ODD[12:21], "1.5", "-0", "inf", "1e999"]))
        text = "\n".join(",".join(row) for row in rows) + "\n"
        path.write_bytes(text.encode("utf-8", "surrogatepass"))

    return spoil


# The loaders


def _write_archive(folder: Path) -> MultiTaskReplayBuffer:
    replay = _replay()
    shape = (2, 3, 2)
    replay.add(
        np.ones(shape, np.float32),
        np.ones((2, 3, 1), np.float32),
        np.ones((2, 3), np.float32),
        np.ones(shape, np.float32),
        np.zeros((2, 3), np.bool_),
    )
    tensors = {"weight": torch.ones(3, 2), "half": torch.zeros(2, dtype=torch.bfloat16)}
    metadata = {"score": 0.5, "config": {"seed": 1}, "counters": {"vector_steps": 5}}
    Archive(folder, keep=2).save(5, tensors, metadata, {"moments": torch.ones(2)}, replay)
    return replay


def _replay() -> MultiTaskReplayBuffer:
    return MultiTaskReplayBuffer(
        2, 4, 2, 1, device=torch.device("cpu"), generator=torch.Generator()
    )


def _read_checkpoint(folder: Path) -> None:
    (path,) = checkpoints(folder)
    metadata = read_metadata(path)
    found = load_checkpoint(path)
    assert found.metadata == metadata or metadata != metadata
    assert all(isinstance(tensor, torch.Tensor) for tensor in found.tensors.values())


def _read_archive(folder: Path) -> None:
    found = load_newest(folder, replay=True)
    parts = segments_of(found.folder, found.checkpoint.metadata)
    replay = _replay()
    segments.load(folder / "replay", parts, replay)
    assert all(part.file == Path(part.file).name for part in parts)
    assert (replay.sizes <= replay.capacity).all()


def _write_run(folder: Path) -> None:
    shutil.rmtree(folder)
    config = make_config(tasks=["reach-v3", "push-v3"], total_steps=500)
    write_run_folder(folder, config, {250: [0.1, 0.5], 500: [0.5, 1.0]})
    for path in (*folder.glob("events*"), *folder.glob(".lock")):
        path.unlink()
    # Short, as it is read for every input.
    settings = "method: ntkmtl\nseed: 1\ntasks: [reach-v3, push-v3]\ntotal_steps: 500\n"
    (folder / "config.yaml").write_text(settings + "warmstart_steps: 100\nevaluate_every: 250\n")


def _read_logs(folder: Path) -> None:
    training = read_rows(folder / "training.csv", "env_steps")
    curves = plots._evaluation_curves(plots._evaluations(folder), "success_rate")
    curves |= plots.task_curves(training, "losses", "critic")
    assert all(np.isfinite(curve.values).all() for curve in curves.values())
    assert all(step >= 0 for step in success_rates(folder))
    assert last_logged_step(folder) >= 0


def _read_run(folder: Path) -> None:
    run = read_run(folder)
    assert run.success.shape == (len(run.vector_steps), len(run.tasks))
    assert ((run.success >= 0) & (run.success <= 1) | np.isnan(run.success)).all()
    assert run.reached >= 0


def _write_diagnosis(folder: Path) -> None:
    diagnosis = Diagnosis(
        task_names=np.array(["reach-v3", "push-v3"]),
        vector_steps=5,
        env_steps=10,
        updates=4,
        extended_kernel=np.ones((2, 2, 2, 2), np.float32),
        eigenvalues=np.ones((2, 2)),
        condition_numbers=np.ones(2),
        condition_number=1.0,
        imbalance=1.0,
        affinity=np.eye(2),
        coupling=np.eye(2),
        mean_affinity=0.0,
        mean_coupling=0.0,
    )
    save_diagnosis(folder, "critic", diagnosis)


def _read_diagnosis(folder: Path) -> None:
    for diagnosis in load_diagnoses(folder, "critic"):
        k = len(diagnosis.task_names)
        assert diagnosis.affinity.shape == diagnosis.coupling.shape == (k, k)
        assert len(diagnosis.scalars("critic")) == 4 + 2 * k


_SWEEP = "methods: ntkmtl,equal\nseeds: 1-3\nvary: {width: [128, 256]}\njobs: 2\ngamma: 0.9\n"


def _read_sweep(folder: Path) -> None:
    sweep = read_sweep(["--sweep", str(folder / "sweep.yaml")], "sweep_mt10")
    assert all(seed >= 0 for seed in sweep.options.seed_numbers)
    assert len(sweep.options.variants) >= 1


_SETTINGS = "method: fairgrad\nseed: 3\ntasks: [reach-v3, push-v3]\nwidth: 64\ngamma: 0.9\n"


def _write_command(folder: Path) -> None:
    (folder / "argv.json").write_text(json.dumps(["--seed=3", "--width", "64", "--lean"]))


def _spoil_command(rng: random.Random, folder: Path) -> None:
    names = ["seed", "width", "gamma", "tasks", "method", "device", "horizon", "resume", "xyz"]
    given = [f"--{rng.choice(names)}={rng.choice(ODD)}" for _ in range(rng.randint(1, 3))]
    (folder / "argv.json").write_text(json.dumps(given))


def _read_command(folder: Path) -> None:
    load(json.loads((folder / "argv.json").read_text()), "train_mt10")


_OPTIONS = [option for method in METHODS for option in options(defaults(method))]
_DRAWN: list[tuple[Option, object]] = [(_OPTIONS[1], 3)]
"""The odd value that an option is given, as no file holds it."""


def _draw_value(rng: random.Random, _: Path) -> None:
    text = damaged(rng, rng.choice([b"0.5", b"128", b"reach-v3,push-v3", b"true", b"runs/x"]))
    value = rng.choice([*ODD, text.decode("latin-1"), altered(rng, [1, "a", {"b": [2.5]}])])
    _DRAWN[:] = [(rng.choice(_OPTIONS), value)]


def _read_value(_: Path) -> None:
    ((option, value),) = _DRAWN
    converted = convert(option.annotation, value, option.name)
    assert convert(option.annotation, converted_back(converted), option.name) == converted


def converted_back(value: object) -> object:
    """A converted value as YAML would hold it."""
    if isinstance(value, tuple):
        return [converted_back(each) for each in value]
    return str(value) if isinstance(value, Path) else value


_SEGMENTS = [
    {"file": f"{n}.safetensors", "size": 9, "sha256": "0", "first": [n, n], "last": [n + 1, n + 1]}
    for n in range(2)
]


def _draw_segments(rng: random.Random, _: Path) -> None:
    _DRAWN_SEGMENTS[:] = [altered(rng, _SEGMENTS)]


_DRAWN_SEGMENTS: list[Any] = [_SEGMENTS]


def _read_segments(_: Path) -> None:
    for segment in segments.from_json(_DRAWN_SEGMENTS[0]):
        assert Path(segment.file).name == segment.file
        assert (segment.range[0] >= 0).all()


def _nothing(_: Path) -> None:
    """No file is read."""


def _read_config(folder: Path) -> None:
    config = read(folder / "config.yaml")
    copy = folder / "copy.yaml"
    save(config, copy)
    assert read(copy) == replace(config, run_dir=None, resume=None)


def _write_defaults(folder: Path) -> None:
    save(defaults("ntkmtl"), folder / "config.yaml")


def _saved_step(folder: Path) -> None:
    assert saved_step(folder, "vector_steps") >= 0


LOADERS: Mapping[str, Loader] = {
    "checkpoint": Loader(
        _write_archive,
        one_of(bytes_of(MANIFEST, WEIGHTS, TRAINING), json_of(MANIFEST, seal=True), sealed_tensors),
        _read_checkpoint,
        weight=28,
    ),
    "replay": Loader(
        _write_archive,
        one_of(bytes_of("*.safetensors"), sealed_segment, json_of(MANIFEST, seal=True)),
        _read_archive,
        weight=11,
    ),
    "agent": Loader(
        save_run,
        one_of(json_of(MANIFEST, seal=True), bytes_of(MANIFEST)),
        load_trained,
        weight=3,
    ),
    "step of a sweep": Loader(_write_archive, json_of(MANIFEST, seal=True), _saved_step, weight=8),
    "config": Loader(
        lambda folder: (folder / "config.yaml").write_text(_SETTINGS),
        bytes_of("config.yaml"),
        _read_config,
        weight=9,
    ),
    "whole config": Loader(_write_defaults, bytes_of("config.yaml"), _read_config, weight=1),
    "sweep": Loader(
        lambda folder: (folder / "sweep.yaml").write_text(_SWEEP),
        bytes_of("sweep.yaml"),
        _read_sweep,
        weight=8,
    ),
    "logs": Loader(
        _write_run,
        one_of(
            bytes_of("training.csv", "evaluation.csv"), odd_cells("training.csv", "evaluation.csv")
        ),
        _read_logs,
        weight=20,
    ),
    "run": Loader(
        _write_run,
        one_of(
            bytes_of("run.json", "config.yaml"), json_of("run.json"), odd_cells("evaluation.csv")
        ),
        _read_run,
        weight=3,
    ),
    "kernels": Loader(_write_diagnosis, bytes_of("*.npz"), _read_diagnosis, weight=22),
    "command line": Loader(_write_command, _spoil_command, _read_command, weight=1),
    "value of an option": Loader(_nothing, _draw_value, _read_value, weight=70),
    "list of segments": Loader(_nothing, _draw_segments, _read_segments, weight=30),
}
