"""Meta-World as a set of tasks: its names."""

from __future__ import annotations

import pytest

from mtrl_ntk.errors import ConfigError
from mtrl_ntk.rl.envs import BENCHMARKS, task_names


def test_benchmarks() -> None:
    assert {name: len(tasks) for name, tasks in BENCHMARKS.items()} == {
        "MT10": 10,
        "MT25": 25,
        "MT50": 50,
    }
    assert BENCHMARKS["MT10"][2] == "pick-place-v3"
    assert BENCHMARKS["MT10"][9] == "window-close-v3"
    assert task_names("MT25") == BENCHMARKS["MT25"]
    assert task_names("MT25", ["push-v3", "reach-v3"]) == ("push-v3", "reach-v3")


@pytest.mark.parametrize(
    ("benchmark", "tasks", "message"),
    [
        ("MT10", ["reach-v3", "pick-plase-v3"], "'pick-plase-v3'; did you mean 'pick-place-v3'"),
        ("MT10", ["reach"], "unknown task 'reach'; did you mean 'reach-v3'.*sweep-into-v3"),
        ("MT10", ["reach-v3", "push-v3", "reach-v3"], "'reach-v3' is given twice"),
        ("MT10", [], "tasks is empty"),
        ("MT11", None, "unknown benchmark 'MT11'; did you mean 'MT10'. possible: MT10, MT25, MT50"),
    ],
)
def test_bad_names(benchmark: str, tasks: list[str] | None, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        task_names(benchmark, tasks)
    assert "\n" not in str(error.value)
