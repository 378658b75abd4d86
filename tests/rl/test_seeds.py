"""What may be a seed, wherever one is given; a bad one changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from mtrl_ntk.errors import ConfigError
from mtrl_ntk.experiment.config import RunConfig
from mtrl_ntk.experiment.devices import stream_seed
from mtrl_ntk.policy import load_policy
from mtrl_ntk.rl.envs import MultiTaskVectorEnv, TaskEnv, make_envs
from mtrl_ntk.rl.sac import MultiTaskSAC, SacConfig
from mtrl_ntk.rl.seeds import seed_of
from tests.points import POINTS, point_config
from tests.rl.agents import make_weighting

BAD = [-1, np.int64(-1), True, np.True_, 1.0, "1", None, [1], 2**64]
GOOD = [0, 5, np.int8(5), np.uint64(2**63), 2**64 - 1]


def agent(seed: Any) -> MultiTaskSAC:  # noqa: ANN401
    return MultiTaskSAC(
        2,
        5,
        2,
        config=SacConfig(batch_size=4, width=8, depth=1),
        make_weighting=partial(make_weighting, "equal", num_tasks=2),
        seed=seed,
    )


TAKERS: dict[str, Callable[[Any], object]] = {
    "a function": seed_of,
    "a task": lambda seed: TaskEnv("light", seed=seed, suite=POINTS),
    "environments": lambda seed: MultiTaskVectorEnv(["light"], seed=seed, suite=POINTS),
    "a configuration's": lambda seed: make_envs(
        point_config(tasks=("light",), horizon=9, workers=0), seed=seed
    ),
    "an agent": agent,
    "a stream": lambda seed: stream_seed(seed, "agent"),
}


@pytest.mark.parametrize("taker", TAKERS)
@pytest.mark.parametrize("seed", BAD, ids=repr)
def test_what_is_no_seed_is_refused(taker: str, seed: object) -> None:
    with pytest.raises(ConfigError, match=r"seed is .*; it must be an integer from 0 to 2"):
        TAKERS[taker](seed)


@pytest.mark.parametrize("taker", TAKERS)
@pytest.mark.parametrize("seed", GOOD, ids=repr)
def test_any_integer_is_a_seed(taker: str, seed: object) -> None:
    TAKERS[taker](seed)


def test_policies_refuse_a_seed_before_they_look_for_an_agent() -> None:
    with pytest.raises(ConfigError, match="seed is -1"):
        load_policy("nowhere", seed=-1)


def test_numpy_s_integers_are_the_same_seeds() -> None:
    assert type(seed_of(np.uint8(7))) is int
    assert stream_seed(np.int64(3), "agent") == stream_seed(3, "agent")  # type: ignore[arg-type]
    assert type(RunConfig(seed=np.int64(3)).seed) is int  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="seed is 4294967296"):
        RunConfig(seed=np.int64(2**32))  # type: ignore[arg-type]
    first, second = agent(3).state_dict(), agent(np.int32(3)).state_dict()
    assert all(first[name].equal(second[name]) for name in first)
    one, other = (TaskEnv("heavy", seed=seed, suite=POINTS).goals for seed in (3, np.int32(3)))  # type: ignore[arg-type]
    np.testing.assert_array_equal(one, other)
