"""Where the results of an evaluation go: no two of them share a folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from mtrl_ntk.errors import UserError
from mtrl_ntk.experiment.agents import Trained, load_trained
from mtrl_ntk.experiment.evaluation import evaluate as evaluation
from tests.clock import Standstill
from tests.saved import save_run


@pytest.fixture
def trained(tmp_path: Path) -> Trained:
    save_run(tmp_path / "run")
    return load_trained(tmp_path / "run")


def test_evaluations_of_one_second_get_a_folder_each(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, "datetime", Standstill)
    with evaluation._folder(None, trained) as first, evaluation._folder(None, trained) as second:
        assert [each.name for each in (first, second)] == ["20260102-030405", "20260102-030405-2"]
        (second / "evaluation.json").touch()
    assert [*(trained.home / "evaluations").iterdir()] == [second]


def test_a_folder_that_is_asked_for_is_that_of_one_evaluation(
    tmp_path: Path, trained: Trained
) -> None:
    out = tmp_path / "asked"
    with (
        evaluation._folder(out, trained),
        pytest.raises(UserError, match="already holds an evaluation; choose another --out"),
        evaluation._folder(out, trained),
    ):
        pass
    with evaluation._folder(out, trained):  # nothing came of the one before
        pass
