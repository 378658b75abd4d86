"""Weights & Biases offline: what is logged there is what TensorBoard has, in one run."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtrl_ntk.errors import UserError
from mtrl_ntk.experiment.config import from_dict, to_dict
from mtrl_ntk.experiment.files.layout import WANDB_ID
from mtrl_ntk.experiment.logs.logger import RunLogger
from mtrl_ntk.experiment.types import Counters, EvaluationResult

PATIENCE_S = 300
"""Only waited for as long if something is wrong."""
SETTINGS = to_dict(from_dict({"tasks": ["reach-v3"], "wandb": True, "seed": 7}))


def at(step: int) -> Counters:
    return Counters(step, 2 * step, step, 1.0)


@pytest.fixture
def _offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    for name in ("WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "home"))


def parsed(file: Path) -> list[Any]:
    """The records that are in a file of Weights & Biases by now."""
    from wandb.proto import wandb_internal_pb2
    from wandb.sdk.internal.datastore import DataStore

    store: Any = DataStore()
    messages: Any = wandb_internal_pb2
    store.open_for_scan(str(file))
    found = []
    while data := store.scan_data():
        found.append(messages.Record())
        found[-1].ParseFromString(data)
    store.close()
    return found


def records(file: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The history rows and the configuration in a file, once its process has written all of it."""
    deadline = time.monotonic() + PATIENCE_S
    while "exit" not in [record.WhichOneof("record_type") for record in parsed(file)]:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    rows: list[dict[str, Any]] = []
    config: dict[str, Any] = {}
    for record in parsed(file):
        if record.WhichOneof("record_type") == "history":
            items = record.history.item
            rows.append({i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in items})
        if record.WhichOneof("record_type") == "run":
            config |= {i.key: json.loads(i.value_json) for i in record.run.config.update}
    return rows, config


@pytest.mark.slow
@pytest.mark.usefixtures("_offline")
def test_scalars_settings_and_resumption_are_in_one_run(tmp_path: Path) -> None:
    run_dir = tmp_path / "runs" / "one"
    result = EvaluationResult(("reach-v3",), np.array([0.5]), np.array([3.0]), 1)
    position = None
    for step in (10, 20):
        with RunLogger(run_dir, ["reach-v3"], position, SETTINGS) as logger:
            logger.log_training(at(step), {"losses/critic": 1.5, "ntk/critic": float("nan")})
            logger.log_evaluation(at(step), result)
            logger.log_diagnosis(at(step), {"kernels/x": 2.0}, {"p": np.zeros((4, 4, 3), np.uint8)})
            position = logger.position(step)
    files = sorted((run_dir / "wandb").glob("offline-run-*/*.wandb"))
    assert [file.name for file in files] == [f"run-{(run_dir / WANDB_ID).read_text()}.wandb"] * 2
    for step, file in zip((10, 20), files, strict=True):
        rows, config = records(file)
        assert all(row["vector_steps"] == step for row in rows)
        merged = {name: value for row in rows for name, value in row.items()}
        expected = {"losses/critic": 1.5, "charts/mean_success_rate": 0.5, "kernels/x": 2.0}
        assert expected.items() <= merged.items()
        assert "ntk/critic" not in merged
        assert merged["p/_type"] == "image-file"
        assert (config["seed"], config["method"]) == (7, "ntkmtl")


@pytest.mark.slow
def test_a_run_without_it_imports_nothing(tmp_path: Path) -> None:
    with RunLogger(tmp_path, ["reach-v3"], settings=to_dict(from_dict({}))):
        assert not (tmp_path / WANDB_ID).exists()
    program = "import sys, mtrl_ntk.experiment.training.run; sys.exit('wandb' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_without_the_package_one_line_names_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match=r"pip install wandb$"):
        RunLogger(tmp_path, ["reach-v3"], settings=SETTINGS)
    assert [*tmp_path.iterdir()] == []


def test_a_folder_that_is_taken_is_refused_first(tmp_path: Path) -> None:
    (tmp_path / "training.csv").write_text("vector_steps\n")
    with pytest.raises(UserError, match="already holds a run"):
        RunLogger(tmp_path, ["reach-v3"], settings=SETTINGS)
    assert [path.name for path in tmp_path.iterdir()] == ["training.csv"]
