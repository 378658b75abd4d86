"""QM9 as graphs with normalised properties."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mtrl_ntk.errors import ConfigError
from mtrl_ntk.supervised.datasets.molecules import PROPERTIES, read_sdf
from mtrl_ntk.supervised.datasets.qm9 import QM9, QM9Config
from tests.supervised.datasets.files_of_others import write_processed_qm9, write_qm9


@pytest.fixture
def config(tmp_path: Path) -> QM9Config:
    write_qm9(tmp_path)
    return QM9Config(data_dir=tmp_path, test_molecules=3, validation_molecules=2)


def test_splits_have_no_molecule_in_common(config: QM9Config) -> None:
    qm9 = QM9(config)
    assert [qm9.size(split) for split in qm9.splits] == [6, 2, 3]
    assert sum(qm9.size(split) for split in qm9.splits) == 11

    def values(split: str, opened: QM9) -> set[float]:
        return set(opened.batch(split, range(opened.size(split))).targets["mu"].tolist())

    assert len(set.union(*(values(split, qm9) for split in qm9.splits))) == 11
    assert values("test", qm9) == values("test", QM9(config))
    assert values("test", qm9) != values("test", QM9(replace(config, split_seed=1)))


def test_properties_are_normalised_by_the_training_split(config: QM9Config) -> None:
    qm9 = QM9(config)
    targets = qm9.batch("train", range(qm9.size("train"))).targets
    assert tuple(targets) == qm9.task_names == tuple(PROPERTIES)
    for target in targets.values():
        assert float(target.mean()) == pytest.approx(0, abs=1e-5)
        assert float(target.std()) == pytest.approx(1, abs=1e-5)


def test_errors_are_in_the_units_of_the_papers(config: QM9Config) -> None:
    qm9 = QM9(config)
    assert config.data_dir is not None
    values = read_sdf(config.data_dir).values
    rows = qm9.size("test")
    batch = qm9.batch("test", range(rows))
    for task in qm9.tasks:
        found = task.tally()
        found.add(torch.full((rows, 1), 1.0), batch.targets[task.name])
        ahead = task.tally()
        ahead.add(batch.targets[task.name][:, None] + 1, batch.targets[task.name])
        column = values[:, list(PROPERTIES).index(task.name)]
        spread = ahead.result()["mae"]
        assert 0.5 * column.std() < spread < 1.5 * column.std()
        assert task.metrics[0].unit == PROPERTIES[task.name].unit


def test_molecules_are_complete_graphs(config: QM9Config) -> None:
    qm9 = QM9(config)
    inputs = qm9.batch("train", range(6)).inputs
    assert isinstance(inputs, Mapping)
    atoms, pairs, mask = inputs["atoms"], inputs["pairs"], inputs["mask"]
    assert atoms.shape == (6, 5, qm9.inputs[0])
    assert pairs.shape == (6, 5, 5, qm9.inputs[1])
    counts = mask.sum(1)
    assert set(counts.tolist()) == {4, 5}
    assert not bool(atoms[~mask].any())
    methane = int(counts.argmax())
    # C: one-hot element, number, three that are zero in the published files, and four hydrogens.
    assert atoms[methane, 0].tolist() == [0, 1, 0, 0, 0, 6, 0, 0, 0, 0, 4]
    assert atoms[methane, 1].tolist() == [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0]
    assert pairs[methane, 0, 1:, 0].tolist() == [1] * 4
    assert not bool(pairs[methane, 1:, 1:, :4].any())
    np.testing.assert_allclose(pairs[methane, 0, 1:, 4], 1.092, atol=2e-3)  # Ångström
    aldehyde = int(counts.argmin())
    assert pairs[aldehyde, 0, 1, :4].tolist() == [0, 1, 0, 0]
    assert not bool(pairs[aldehyde, 4].any())
    torch.testing.assert_close(pairs, pairs.transpose(1, 2))


def test_the_processed_file_serves_as_well(tmp_path: Path) -> None:
    write_processed_qm9(tmp_path / "raw")
    qm9 = QM9(QM9Config(data_dir=tmp_path, test_molecules=3, validation_molecules=2))
    assert [qm9.size(split) for split in qm9.splits] == [7, 2, 3]


def test_too_few_molecules_are_refused(config: QM9Config) -> None:
    with pytest.raises(ConfigError, match=r"11 molecules, too few to learn from with 12 held out"):
        QM9(replace(config, test_molecules=10))


def test_without_the_list_of_the_inconsistent_a_line_says_so(
    config: QM9Config, capsys: pytest.CaptureFixture[str]
) -> None:
    assert config.data_dir is not None
    (config.data_dir / "uncharacterized.txt").unlink()
    QM9(config)
    assert "no uncharacterized.txt: molecules are in" in capsys.readouterr().err
