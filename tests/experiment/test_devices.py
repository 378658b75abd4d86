"""How many threads learn."""

from __future__ import annotations

import pytest

from mtrl_ntk.experiment import devices
from mtrl_ntk.experiment.config import from_dict
from mtrl_ntk.experiment.devices import learner_threads


@pytest.mark.parametrize(
    ("variable", "threads", "expected"),
    [
        (None, 0, 14),
        ("3", 0, 3),
        ("5,2", 0, 5),
        ("3", 7, 7),
        ("", 0, 14),
        ("0", 0, 14),
        ("many", 0, 14),
    ],
)
def test_the_option_goes_before_the_environment_and_that_before_the_cores(
    monkeypatch: pytest.MonkeyPatch, variable: str | None, threads: int, expected: int
) -> None:
    monkeypatch.setattr(devices, "usable_cores", lambda: 16)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if variable is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", variable)
    assert learner_threads(from_dict({"threads": threads, "workers": 2})) == expected
