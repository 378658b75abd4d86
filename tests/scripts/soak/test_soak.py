"""The soak: what it does to runs, what it notices, and a short one as a whole."""

from __future__ import annotations

import json
import random
import shutil
import sys
import time
from pathlib import Path

import pytest

from mtrl_ntk.errors import ConfigError
from mtrl_ntk.experiment.training.run import train
from scripts.soak.__main__ import Results, main
from scripts.soak.comparison import equal_parts
from scripts.soak.faults import FAULTS, Unexpected, _damage, in_turn, train_to_the_end
from scripts.soak.training import Training, slope
from tests.experiment.training.test_run import tiny


def test_memory_that_grows_is_seen() -> None:
    flat = [(float(second), 100_000_000) for second in range(600)]
    growing = [(second, size + int(second * 1e6 / 60)) for second, size in flat]
    assert slope(flat) == pytest.approx(0)
    assert slope(growing) == pytest.approx(60, rel=1e-3)
    # What is allocated at the beginning is no growth.
    assert slope([(0.0, 10), *growing[:100], *((t + 100, 5 * 10**8) for t, _ in flat)]) == (
        pytest.approx(0, abs=1e-6)
    )
    assert slope(flat[:100]) is None
    assert slope([]) is None


def test_each_fault_comes_as_often_as_the_others() -> None:
    names = in_turn(list(FAULTS), random.Random(0))
    drawn = [next(names) for _ in range(3 * len(FAULTS))]
    assert all(drawn.count(name) == 3 for name in FAULTS)
    assert drawn[: len(FAULTS)] != drawn[len(FAULTS) : 2 * len(FAULTS)]


def test_damage_always_changes_a_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for seed in range(20):
        path.write_bytes(b"content")
        _damage(path, random.Random(seed))
        assert not path.exists() or path.read_bytes() != b"content"


class Script(Training):
    """A program in the place of a run."""

    def __init__(self, code: str, folder: Path) -> None:
        super().__init__(folder / "run", {}, folder)
        self._command = [sys.executable, "-S", "-E", "-c", code]


def test_an_end_that_no_fault_explains_is_noticed(tmp_path: Path) -> None:
    with pytest.raises(Unexpected, match=r"exit code 3 after \{\}: out of luck"):
        train_to_the_end(Script("print('out of luck'); raise SystemExit(3)", tmp_path))
    train_to_the_end(Script("", tmp_path))


def test_what_lives_on_is_noticed_and_ended(tmp_path: Path) -> None:
    sleeper = "[sys.executable, '-c', 'import time; time.sleep(60)']"
    code = f"import subprocess, sys; subprocess.Popen({sleeper})"
    training = Script(code, tmp_path)
    training.start()
    assert training.wait() == 0
    left = training.left_processes(patience=0.0)
    assert len(left) == 1
    training.end()
    start = time.monotonic()
    assert not training.left_processes()
    assert time.monotonic() - start < 5


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


@pytest.mark.slow
def test_differences_are_named(tmp_path: Path) -> None:
    train(tiny(tmp_path / "one"))
    train(tiny(tmp_path / "other", seed=2))
    shutil.copytree(tmp_path / "one", tmp_path / "same")
    assert set(equal_parts(tmp_path / "one", tmp_path / "same").values()) == {True}
    parts = equal_parts(tmp_path / "one", tmp_path / "other")
    assert {name for name, equal in parts.items() if equal} <= {"evaluation.csv"}


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
def test_a_short_soak_holds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["--minutes", "0.3", "--seed", "1", "--json", str(tmp_path / "soak.json")])
    results = json.loads((tmp_path / "soak.json").read_text())
    assert results == json.loads(capsys.readouterr().out)
    assert results["passed"]
    assert results["resumptions"] > 0
    assert len(results["faults"]) > 2
