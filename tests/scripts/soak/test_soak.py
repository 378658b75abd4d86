"""The soak: what it does to runs, what it notices, and a short one as a whole."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mtrl_ntk.errors import ConfigError
from scripts.soak import __main__ as soak
from scripts.soak.__main__ import Results, main


def test_each_failure_counts() -> None:
    good = Results(runs=1, faults={"kill": 1})
    assert good.passed
    bad = [
        Results(runs=0, faults={"kill": 1}),
        Results(runs=1),
        Results(runs=1, faults={"kill": 1}, differences=["weights of run"]),
        Results(runs=1, faults={"kill": 1}, left_behind=["file"]),
        Results(runs=1, faults={"kill": 1}, unexpected=["exit code 1"]),
        Results(runs=1, faults={"kill": 1}, undisturbed_mb_per_hour=80.0, longest_s=900.0),
    ]
    assert not any(results.passed for results in bad)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--minutes", "0"], "minutes is 0"),
        (["--faults", "flood"], "unknown faults"),
        (["--folder", "."], "exists already"),
    ],
)
def test_impossible_options_are_refused(argv: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        main(argv)


@pytest.mark.slow
def test_a_short_soak_holds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(soak, "_FEWEST_RUNS", 1)
    few = {"workers": 1, "tasks": "reach-v3,push-v3"}
    monkeypatch.setattr(soak, "_FLAGS", soak._FLAGS | few)
    main(["--minutes", "0.1", "--seed", "1", "--json", str(tmp_path / "soak.json")])
    results = json.loads((tmp_path / "soak.json").read_text())
    assert results == json.loads(capsys.readouterr().out)
    assert results["passed"]
    assert results["resumptions"] > 0
    assert len(results["faults"]) > 2
