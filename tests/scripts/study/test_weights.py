"""Whether weights follow success is told from the logs of runs."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from mtrl_ntk.experiment.files.layout import TRAINING_CSV
from scripts.study.fifths import FIFTHS
from scripts.study.weights import correlations, main, spreads

TASKS = ("reach", "push", "peg")


def write_run(folder: Path, *, sign: float) -> str:
    """A run whose weights are ten to the power of success, or of its opposite."""
    folder.mkdir()
    success = np.random.default_rng(0).random((20, len(TASKS)))
    with (folder / TRAINING_CSV).open("w", encoding="utf-8", newline="") as file:
        columns = {
            "charts/training_success_rate": success,
            "weights/critic": 10 ** (sign * success),
            "weights/actor": 10 ** (-sign * success),
            "ntk/critic": 10 ** (-2 * sign * success),
            "ntk/actor": np.ones_like(success),
        }
        writer = csv.writer(file)
        writer.writerow([f"{name}/{task}" for name in columns for task in TASKS])
        writer.writerows(np.hstack([*columns.values()]))
    return str(folder)


def test_weights_that_follow_success_correlate_with_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [write_run(tmp_path / name, sign=1.0) for name in ("a", "b")]
    main([*runs, "--csv", str(tmp_path / "each.csv")])
    each = (tmp_path / "each.csv").read_text(encoding="utf-8").splitlines()
    assert each[0] == "run,part,fifth,weight_correlation,eigenvalue_correlation,eigenvalue_spread"
    # Eigenvalues are ten to the power of minus twice the success in the first four of twenty rows.
    spread = 2 * np.random.default_rng(0).random((20, len(TASKS)))[:4].std(1).mean()
    assert each[1] == f"a,critic,1,1.000,-1.000,{spread:.3f}"
    assert len(each) == 1 + 2 * 2 * FIFTHS
    lines = capsys.readouterr().out.splitlines()
    one, minus_one = (f"{x:+.2f} [{x:+.2f}, {x:+.2f}]" for x in (1, -1))
    assert lines[1].split(" | ") == ["critic", "weight correlation", *[one] * FIFTHS]
    assert lines[2].split(" | ") == ["critic", "eigenvalue correlation", *[minus_one] * FIFTHS]
    assert lines[4].split(" | ") == ["actor", "weight correlation", *[minus_one] * FIFTHS]
    assert lines[5].split(" | ") == ["actor", "eigenvalue correlation", *["all are alike"] * FIFTHS]
    assert lines[6].split(" | ") == [
        "actor",
        "eigenvalue spread",
        *["+0.00 [+0.00, +0.00]"] * FIFTHS,
    ]
    assert lines[-1].startswith("--task-weights ")
    assert [line.partition(" | ")[0] for line in lines[-4:-1]] == [*TASKS]


def test_rows_without_success_or_with_one_rate_for_all_tell_nothing() -> None:
    weights = np.arange(1.0, 31.0).reshape(10, 3) % 7 + 1
    success = np.full((10, 3), np.nan)
    success[4:] = 1.0
    success[-2:] = weights[-2:]
    found = correlations(weights, success)
    assert np.isnan(found[:-1]).all()
    assert found[-1] > 0.9


def test_the_spread_is_that_of_powers_of_ten_among_tasks_that_count() -> None:
    values = np.tile([1.0, 100.0, 0.0], (10, 1))
    values[6:] = [1.0, 1.0, 1.0]
    np.testing.assert_allclose(spreads(values), [1, 1, 1, 0, 0])


def test_a_folder_without_a_run_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main([str(tmp_path)])
    assert end.value.code == 2
    assert "holds no run" in capsys.readouterr().err
