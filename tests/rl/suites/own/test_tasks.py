"""What a user says of own tasks, and what is refused of it."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete
from hypothesis import given, strategies

from mtrl_ntk.errors import ConfigError
from mtrl_ntk.rl.suites.own.tasks import ActionScale, Tasks, check_spaces
from tests.own_tasks import Mass


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"envs": {}}, "must be a mapping from names"),
        ({"envs": ["Pendulum-v1"]}, "must be a mapping from names"),
        ({"envs": {"a/b": Mass}}, "the name of a task is 'a/b'"),
        ({"envs": {"a": 3}}, "task a is 3; it must be a function"),
        ({"envs": {"a": Mass}, "horizon": 0}, "horizon is 0; it must be a positive whole number"),
        (
            {"envs": {"a": Mass}, "success_return": "x"},
            "success_return is 'x'; it must be a fin",
        ),
        ({"envs": {"a": Mass}, "success_return": {"b": 1}}, "it must name every task: a"),
    ],
)
def test_tasks_that_cannot_be_are_refused(arguments: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        Tasks(**arguments)


@pytest.mark.parametrize(
    ("observations", "actions", "reason"),
    [
        (Dict({"a": Box(0, 1)}), Box(-1, 1), "FlattenObservation"),
        (Box(0, 1, (4, 4)), Box(-1, 1), "FlattenObservation"),
        (Box(0, 1), Discrete(3), "has actions Discrete.3.; they must be a Box"),
        (Box(0, 1), Box(-1, 1, (2, 2)), "they must be a Box of one axis"),
        (Box(0, 1), Box(-np.inf, 1.0), "actions without bounds"),
        (Box(0, 1), Box(0, 5, (1,), np.int64), "actions of int64; they must be floats"),
    ],
)
def test_spaces_in_which_no_agent_can_act_are_refused(
    observations: Any,  # noqa: ANN401
    actions: Any,  # noqa: ANN401
    reason: str,
) -> None:
    env = Mass(1)
    env.observation_space, env.action_space = observations, actions
    with pytest.raises(ConfigError, match=reason):
        check_spaces("a", env)


@given(strategies.floats(-1e6, 1e6), strategies.floats(1e-3, 1e6), strategies.floats(-1, 1))
def test_actions_stay_in_their_space(low: float, width: float, action: float) -> None:
    space = Box(np.float32(low), np.float32(low + width), (1,), np.float32)
    scale = ActionScale(space)
    assert space.contains(scale(np.array([action], np.float32)))
    np.testing.assert_array_equal(scale(np.array([-1], np.float32)), space.low)
    np.testing.assert_array_equal(scale(np.array([1], np.float32)), space.high)


def test_only_what_can_be_told_is_told_how_to_render() -> None:
    told = Tasks({"a": lambda render_mode: Mass(1, 2, render_mode)})
    assert told.make("a", "rgb_array").render_mode == "rgb_array"
    assert Tasks({"a": lambda: Mass(1)}).make("a", "rgb_array").render_mode is None
    assert isinstance(Tasks({"a": "Pendulum-v1"}).make("a"), gymnasium.Env)
    with pytest.raises(ConfigError, match=r"task a is 5; it must be a gymnasium.Env"):
        Tasks({"a": lambda: 5}).make("a")  # type: ignore[return-value, dict-item]
