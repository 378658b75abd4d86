"""Every data set is learnt from files of the published formats, killed and gone on with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mtrl_ntk.experiment.config import NEWEST
from mtrl_ntk.experiment.reports.options import ReportOptions
from mtrl_ntk.supervised.config import SUPERVISED
from mtrl_ntk.supervised.reports.report import find, metrics_table
from mtrl_ntk.supervised.training import run as training
from mtrl_ntk.supervised.training.run import train
from tests.experiment.outcomes import assert_same
from tests.supervised.datasets.files_of_others import write_celeba, write_npy_folders, write_qm9
from tests.supervised.training.test_run import kill_at

Write = Callable[[Path], Path]
CASES: dict[str, tuple[Write, dict[str, object]]] = {
    "nyuv2": (lambda at: write_npy_folders(at, 13, "label", normals=True), {"width": 2}),
    "mtan": (
        lambda at: write_npy_folders(at, 13, "label", normals=True),
        {"dataset": "nyuv2", "network": "mtan", "width": 2},
    ),
    "cityscapes": (lambda at: write_npy_folders(at, 7, "label_7", normals=False), {"width": 2}),
    "celeba": (write_celeba, {"image_size": 16, "width": 2}),
    "qm9": (
        write_qm9,
        {"features": 4, "edge_features": 4, "test_molecules": 3, "validation_molecules": 2}
        | {"schedule": "plateau", "patience": 0},
    ),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("method", ["ntkmtl_sr", "famo"])
def test_each_is_learnt_reported_and_gone_on_with_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, method: str
) -> None:
    monkeypatch.setattr(training, "draw_predictions", lambda *_, **__: [])
    monkeypatch.setattr(training, "plot_supervised", lambda _: [])
    write, settings = CASES[name]
    common: dict[str, object] = {"dataset": name, "method": method, "epochs": 2, "batch_size": 2}
    common |= {"threads": 1, "device": "cpu", "checkpoint_every": 1, "log_every": 1}
    config = SUPERVISED.from_dict({**common, **settings, "data_dir": str(write(tmp_path / "data"))})
    straight, killed = (replace(config, run_dir=tmp_path / each) for each in ("straight", "killed"))
    train(straight, quiet=True)
    with monkeypatch.context() as patch:
        kill_at(patch, 1)
        with pytest.raises(KeyboardInterrupt):
            train(killed, quiet=True)
    train(replace(killed, resume=NEWEST), quiet=True)
    assert_same(tmp_path / "straight", tmp_path / "killed")
    table = metrics_table(find([tmp_path / "straight"], ReportOptions(resamples=5)))
    assert table.rows
