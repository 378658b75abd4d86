"""Suites of a user's own tasks: found by name, checked, sent to workers, resumed exactly."""

from __future__ import annotations

import pickle
from contextlib import closing
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box
from numpy.typing import NDArray

from mtrl_ntk.errors import ConfigError
from mtrl_ntk.rl.envs import EnvConfig, MultiTaskVectorEnv, make_envs
from mtrl_ntk.rl.suites.own.suite import suite_of, suite_of_name
from mtrl_ntk.rl.suites.own.tasks import Tasks
from mtrl_ntk.rl.suites.registry import SUITES, add_tasks, find_suite, load_suite
from tests.own_tasks import Forgetful, Mass, Silent, make_silent, make_tasks

FILE = Path(__file__).parents[3] / "own_tasks.py"


def rows(envs: MultiTaskVectorEnv, steps: int) -> list[tuple[bytes, ...]]:
    actions = np.random.default_rng(steps).uniform(-1, 1, (steps, envs.num_envs, 2))
    return [
        tuple(part.tobytes() for part in envs.step(action.astype(np.float32))[:4])
        for action in actions
    ]


@pytest.mark.parametrize("origin", ["file", "given"])
def test_own_tasks_step_alike_in_workers_and_go_on_where_they_were(origin: str) -> None:
    suite = suite_of_name(f"{FILE}:make_tasks") if origin == "file" else suite_of(make_tasks)

    def make(workers: int) -> MultiTaskVectorEnv:
        return MultiTaskVectorEnv(
            suite.tasks, seed=3, envs_per_task=2, suite=suite, workers=workers
        )

    with closing(make(0)) as envs, closing(make(1)) as others:
        np.testing.assert_array_equal(envs.reset()[0], others.reset()[0])
        assert rows(envs, 17) == rows(others, 17)
        state = others.state()
        expected = rows(envs, 20)
    with closing(make(0)) as envs:
        envs.restore(state)
        assert rows(envs, 20) == expected


def test_a_suite_says_what_its_tasks_are() -> None:
    suite = suite_of_name("tests.own_tasks:make_tasks")
    assert (suite.name, suite.tasks) == ("tests.own_tasks:make_tasks", ("left", "right"))
    assert (suite.observation_dim, suite.action_dim, suite.max_horizon) == (4, 2, 12)
    assert (suite.steps_per_second, suite.cameras) == (20.0, ("render",))
    assert suite.success == "at any step; the episode ends with it"
    assert suite.remark is None
    assert suite_of_name(f"{FILE}:make_tasks").name == "own_tasks:make_tasks"
    assert pickle.loads(pickle.dumps(suite)).tasks == suite.tasks


def test_what_counts_as_success_is_said() -> None:
    make = {"a": lambda: Silent(1), "b": lambda: Silent(-1)}
    assert suite_of(make_silent).success is None
    one = Tasks(make, 9, success_return=-3.5)
    assert suite_of(one, "one").success == "a return of at least -3.5"
    each = Tasks(make, 9, success_return={"a": -1, "b": 2})
    assert suite_of(each, "each").success == "a return of at least -1 (a), 2 (b)"
    assert suite_of(Tasks(make, 9, says_success=True), "said").success is not None
    with pytest.raises(ConfigError, match=r"task b has no info\[.success.\], and others have"):
        suite_of(Tasks({"a": lambda: Mass(1), "b": lambda: Silent(1)}, 9), "mixed")


def test_tasks_that_do_not_repeat_themselves_are_named() -> None:
    suite = suite_of(Tasks({"a": lambda: Mass(1), "b": lambda: Forgetful(1)}, 9), "forgetful")
    assert suite.remark is not None
    assert suite.remark.startswith("not exact when resumed: b do not repeat themselves")


class Long(Mass):
    def __init__(self) -> None:
        super().__init__(1)
        self.observation_space = Box(-1, 1, (9,), np.float64)

    def _observation(self) -> NDArray[np.float64]:
        return np.zeros(9)


class Wrong(Long):
    def _observation(self) -> NDArray[np.float64]:
        return np.zeros(4)


def broken() -> gymnasium.Env[Any, Any]:
    raise ZeroDivisionError("no mass")


@pytest.mark.parametrize(
    ("origin", "reason"),
    [
        (Tasks({"a": lambda: Mass(1), "b": Long}, 9), "equal spaces, but a has 4 numbers"),
        (Tasks({"a": Wrong}, 9), r"gave an observation of shape \(4,\)"),
        ({"a": lambda: Mass(1)}, r"task a does not say how long .* horizon=200"),
        ({"a": broken}, r"ZeroDivisionError: no mass \(.*test_suite.py, line \d+\)"),
        ({"a": "NoSuch-v0"}, "NameNotFound"),
        (lambda: None, "tasks are None; they must be a mapping"),
    ],
)
def test_tasks_that_cannot_be_used_are_refused_in_one_line(origin: Any, reason: str) -> None:  # noqa: ANN401
    with pytest.raises(ConfigError, match=rf"suite bad cannot be used: .*{reason}"):
        suite_of(origin, "bad")


@pytest.mark.parametrize(
    ("reference", "reason"),
    [
        ("own", "unknown suite .own.; it must be metaworld"),
        ("tests.own_tasks:", "must be module:function"),
        ("tests.own_tasks:no_tasks", "has no function no_tasks"),
        ("no_such_module:make_tasks", "there is no module of that name"),
        ("no_such_file.py:make_tasks", "there is no such file"),
    ],
)
def test_names_that_lead_nowhere_are_refused(reference: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        load_suite(reference)


def test_a_module_of_the_present_folder_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", ["/nowhere", *__import__("sys").path])
    (tmp_path / "tasks_of_this_folder.py").write_text("from tests.own_tasks import make_tasks\n")
    assert load_suite("tasks_of_this_folder:make_tasks").tasks == ("left", "right")


def test_a_configuration_takes_from_its_suite_what_was_left_open() -> None:
    suite = add_tasks(make_tasks, "masses:of_a_test")
    config = EnvConfig(suite=suite.name, workers=0)
    assert (config.tasks, config.horizon, config.benchmark) == (("left", "right"), 12, "all")
    assert (config.reward_version, config.features) == ("", "raw")
    with closing(make_envs(config, seed=0)) as envs:
        assert envs.suite is suite
    with pytest.raises(ConfigError, match="reward_version is 'v2'; it must be left out"):
        EnvConfig(suite=suite.name, reward_version="v2")
    with pytest.raises(ConfigError, match="horizon is 13; it must be from 1 to 12"):
        EnvConfig(suite=suite.name, horizon=13)
    # What was written of a run is read without its tasks; they are not imported for that.
    del SUITES[suite.name]
    assert EnvConfig(suite=suite.name, tasks=config.tasks).task_names == config.tasks
    with pytest.raises(ConfigError, match="imported only if the command line says so: --suite mas"):
        find_suite(suite.name)


def test_nothing_takes_the_name_of_a_suite_of_the_package() -> None:
    with pytest.raises(ConfigError, match="the name metaworld is that of a suite"):
        add_tasks(make_tasks, "metaworld")


def test_steps_tell_of_no_success_where_nothing_counts_as_such() -> None:
    suite = suite_of(make_silent)
    with closing(MultiTaskVectorEnv(suite.tasks, seed=0, suite=suite)) as envs:
        envs.reset()
        infos = [envs.step(np.zeros((2, 2), np.float32))[4] for _ in range(12)]
    assert all(np.isnan(info["success"]).all() for info in infos)
    assert np.isnan(infos[-1]["final_info"]["success"]).all()
