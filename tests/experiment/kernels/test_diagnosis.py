"""Diagnoses come back as they were kept, and training does not notice them."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mtrl_ntk.balancing import Jacobian
from mtrl_ntk.errors import UserError
from mtrl_ntk.experiment.kernels.diagnosis import (
    diagnose,
    load_diagnoses,
    save_diagnosis,
)
from mtrl_ntk.experiment.types import Counters
from tests.experiment.diagnoses import make_diagnosis

GROUPS = (("reach-v3", "push-v3"), ("drawer-close-v3",))
NAMES = [name for group in GROUPS for name in group]


def test_a_diagnosis_by_hand() -> None:
    rows = torch.tensor([[[2.0, 0.0], [0.0, 1.0]], [[2.0, 0.0], [0.0, -1.0]]])
    diagnosis = diagnose(Jacobian(rows), ["a", "b"], Counters(7, 70, 3, seconds=1.0))
    assert diagnosis.task_names.tolist() == ["a", "b"]
    assert (diagnosis.vector_steps, diagnosis.env_steps, diagnosis.updates) == (7, 70, 3)
    assert diagnosis.extended_kernel[0, :, 1].tolist() == [[4, 0], [0, -1]]
    assert diagnosis.eigenvalues.tolist() == [[4, 1], [4, 1]]
    assert diagnosis.condition_numbers.tolist() == [4, 4]
    assert diagnosis.condition_number > 1e12, "two pairs of rows are parallel"
    assert diagnosis.imbalance == 1
    # The mean gradients are (1, 1/2) and (1, -1/2).
    assert diagnosis.affinity[0, 1] == pytest.approx(0.6)
    assert diagnosis.mean_affinity == pytest.approx(0.6)
    assert diagnosis.mean_coupling == pytest.approx(1.0)


def test_a_task_without_a_gradient_has_no_condition_and_spoils_nothing() -> None:
    rows = torch.randn(3, 2, 10)
    rows[1] = torch.nan
    diagnosis = diagnose(Jacobian(rows), ["a", "b", "c"], Counters(1, 1, 1, seconds=1.0))
    assert np.isnan(diagnosis.condition_numbers).tolist() == [False, True, False]
    assert diagnosis.affinity[1].tolist() == [0, 1, 0]
    numbers = {name: value for name, value in asdict(diagnosis).items() if name != "task_names"}
    del numbers["condition_numbers"]
    assert all(np.isfinite(value).all() for value in numbers.values())


def test_a_single_task_has_no_pairs() -> None:
    diagnosis = diagnose(Jacobian(torch.randn(1, 2, 10)), ["a"], Counters(1, 1, 1, seconds=1.0))
    assert diagnosis.affinity.tolist() == [[1]]
    assert np.isnan([diagnosis.mean_affinity, diagnosis.mean_coupling]).all()


def test_a_diagnosis_comes_back_as_it_was(tmp_path: Path) -> None:
    diagnosis = make_diagnosis(GROUPS)
    path = save_diagnosis(tmp_path, "critic", diagnosis)
    assert [file.name for file in (tmp_path / "kernels").iterdir()] == [path.name]
    (loaded,) = load_diagnoses(tmp_path, "critic")
    for name, value in asdict(diagnosis).items():
        np.testing.assert_array_equal(getattr(loaded, name), value)
        assert type(getattr(loaded, name)) is type(value)
    assert load_diagnoses(tmp_path, "actor") == []


def test_diagnoses_come_in_the_order_of_updates(tmp_path: Path) -> None:
    for updates in (200, 1_000_000_000, 3):
        save_diagnosis(tmp_path, "actor", make_diagnosis(GROUPS, updates))
    updates_of = [diagnosis.updates for diagnosis in load_diagnoses(tmp_path, "actor")]
    assert updates_of == [3, 200, 1_000_000_000]


def test_a_diagnosis_that_cannot_be_written_leaves_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(np, "savez_compressed", fail)
    with pytest.raises(OSError, match="no space"):
        save_diagnosis(tmp_path, "critic", make_diagnosis(GROUPS))
    assert load_diagnoses(tmp_path, "critic") == []


@pytest.mark.parametrize("damage", ["empty", "text", "cut", "foreign", "mismatched"])
def test_a_damaged_file_is_named_in_one_line(tmp_path: Path, damage: str) -> None:
    path = save_diagnosis(tmp_path, "critic", make_diagnosis(GROUPS))
    content = path.read_bytes()
    if damage == "foreign":
        np.savez(path, values=np.zeros(3))
    elif damage == "mismatched":
        one_less = replace(make_diagnosis(GROUPS), affinity=np.eye(2))
        save_diagnosis(tmp_path, "critic", one_less)
    else:
        path.write_bytes({"empty": b"", "text": b"text", "cut": content[:1000]}[damage])
    with pytest.raises(UserError, match=f"{path.name} is (damaged|no diagnosis)"):
        load_diagnoses(tmp_path, "critic")


def test_scalars_are_named_by_network_and_task() -> None:
    scalars = make_diagnosis(GROUPS).scalars("critic")
    single = ("condition_number", "imbalance", "mean_affinity", "mean_coupling")
    per_task = ("largest_eigenvalue", "condition_number")
    assert set(scalars) == {f"kernels/critic/{name}" for name in single} | {
        f"kernels/critic/{name}/{task}" for name in per_task for task in NAMES
    }
    assert all(isinstance(value, float) for value in scalars.values())
