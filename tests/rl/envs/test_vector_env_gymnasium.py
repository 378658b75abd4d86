"""What users of Gymnasium expect of a vector environment, and what its wrappers ask for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers import vector as wrappers
from numpy.typing import NDArray

import mtrl_ntk.registration  # noqa: F401 - as gymnasium may not have been there before
from mtrl_ntk.errors import ConfigError
from mtrl_ntk.rl.envs import MultiTaskVectorEnv, task_names
from mtrl_ntk.rl.suites.own.suite import suite_of
from tests.own_tasks import make_tasks

SUITE = suite_of(make_tasks)
NEXT = AutoresetMode.NEXT_STEP


def make(**arguments: Any) -> MultiTaskVectorEnv:  # noqa: ANN401
    return MultiTaskVectorEnv(SUITE.tasks, **{"seed": 3, "suite": SUITE, "horizon": 5, **arguments})


def actions(steps: int, envs: int = 2) -> NDArray[np.float32]:
    return np.random.default_rng(0).uniform(-1, 1, (steps, envs, 2)).astype(np.float32)


@pytest.mark.parametrize("workers", [0, 1])
def test_attributes_are_those_of_the_environments(workers: int) -> None:
    with make(workers=workers, envs_per_task=2) as envs:
        assert [goal[0] for goal in envs.get_attr("goal")] == [-1, -1, 1, 1]
        assert envs.get_attr("name") == ("left", "left", "right", "right")
        assert envs.call("info", 0.1) == ({"success": True},) * 4
        assert [goal[0] for goal in envs.call("goal")] == [-1, -1, 1, 1]
        envs.set_attr("goal", [np.array([number, 0]) for number in range(4)])
        envs.set_attr("mark", 7)
        assert [goal[0] for goal in envs.get_attr("goal")] == [0, 1, 2, 3]
        assert envs.get_attr("mark") == (7,) * 4
        with pytest.raises(AttributeError, match="nothing"):
            envs.get_attr("nothing")
        with pytest.raises(ValueError, match="3 values for 4 environments"):
            envs.set_attr("mark", [1, 2, 3])
        envs.reset()
        envs.step(np.zeros((4, 2)))
    assert envs.closed


@pytest.mark.parametrize("workers", [0, 1])
def test_pictures_are_rendered_where_they_are_asked_for(workers: int) -> None:
    with make(workers=workers, render_mode="rgb_array", picture_size=64) as envs:
        envs.reset()
        pictures = envs.render()
        assert pictures is not None
        assert [picture.shape for picture in pictures] == [(64, 64, 3)] * 2
    with make() as envs:
        assert envs.render() is None
    with pytest.raises(ConfigError, match="render_mode is 'human'; it must be rgb_array"):
        make(render_mode="human")


@pytest.mark.parametrize("workers", [0, 1])
def test_both_ways_to_reset_run_the_same_episodes(workers: int) -> None:
    """Those that reset at the next step say the same, with a step between two episodes."""
    with make() as same, make(autoreset_mode=NEXT, workers=workers) as following:
        observations, _ = same.reset()
        np.testing.assert_array_equal(following.reset()[0], observations)
        for action in actions(25):
            expected = same.step(action)
            seen = following.step(action)
            last = expected[4].get("final_obs", expected[0])
            for one, other in zip((last, *expected[1:4]), seen[:4], strict=True):
                np.testing.assert_array_equal(one, other)
            ended = expected[2] | expected[3]
            assert (ended == ended[0]).all(), "or else one would have to wait for the other"
            if ended.any():
                first, rewards, terminated, truncated, infos = following.step(action)
                np.testing.assert_array_equal(first, expected[0])
                nothing = rewards, terminated, truncated, infos["valid"]
                assert not any(each.any() for each in nothing)


def test_episodes_that_end_apart_wait_for_themselves_only() -> None:
    with make(autoreset_mode=NEXT) as envs:
        envs.reset()
        envs.step(actions(1)[0])
        envs.reset(options={"reset_mask": np.array([True, False])})
        ends = [envs.step(np.zeros((2, 2)))[3].tolist() for _ in range(7)]
    # The second is a step ahead; each takes a step to be reset.
    assert [row for row, _ in ends] == [False] * 4 + [True, False, False]
    assert [row for _, row in ends] == [False] * 3 + [True, False, False, False]


def test_a_reset_that_is_due_is_part_of_the_state() -> None:
    taken = actions(12)
    with make(autoreset_mode=NEXT) as envs, make(autoreset_mode="NextStep") as other:
        envs.reset()
        for action in taken[:5]:
            envs.step(action)
        other.restore(envs.state())
        for action in taken[5:]:
            for one, two in zip(envs.step(action)[:4], other.step(action)[:4], strict=True):
                np.testing.assert_array_equal(one, two)


def test_another_way_to_reset_is_refused() -> None:
    with pytest.raises(ConfigError, match="autoreset_mode is Disabled"):
        make(autoreset_mode=AutoresetMode.DISABLED)


WRAPPERS: list[tuple[Callable[[Any], Any], AutoresetMode]] = [
    *((wrappers.RecordEpisodeStatistics, mode) for mode in (AutoresetMode.SAME_STEP, NEXT)),
    *((wrappers.NormalizeReward, mode) for mode in (AutoresetMode.SAME_STEP, NEXT)),
    (wrappers.NormalizeObservation, NEXT),
    (lambda envs: wrappers.ClipReward(envs, -1, 1), AutoresetMode.SAME_STEP),
    (wrappers.ClipAction, AutoresetMode.SAME_STEP),
    (lambda envs: wrappers.DtypeObservation(envs, np.float64), NEXT),
    (lambda envs: wrappers.TransformReward(envs, np.negative), NEXT),
    (wrappers.DictInfoToList, NEXT),
]


@pytest.mark.parametrize(("wrap", "mode"), WRAPPERS)
def test_gymnasiums_wrappers_take_it(wrap: Callable[[Any], Any], mode: AutoresetMode) -> None:
    envs = wrap(make(autoreset_mode=mode))
    observations, _ = envs.reset(seed=5)
    assert envs.observation_space.shape == observations.shape
    infos = []
    for action in actions(13):
        observations, rewards, _, _, info = envs.step(action)
        infos.append(info)
        assert np.isfinite(observations).all()
        assert np.isfinite(rewards).all()
    if isinstance(envs, wrappers.RecordEpisodeStatistics):
        lengths = [info["episode"]["l"] for info in infos if "episode" in info]
        assert [5, 5] in [each.tolist() for each in lengths]
    envs.close()


@pytest.mark.parametrize("num_envs", [1, 4])
def test_suites_have_an_id(num_envs: int) -> None:
    suite = "tests.own_tasks:make_tasks"
    envs = gymnasium.make_vec("mtrl_ntk/Tasks-v0", num_envs=num_envs, suite=suite, seed=1)
    assert envs.num_envs == max(num_envs, 2)
    assert envs.spec is not None
    assert envs.spec.id == "mtrl_ntk/Tasks-v0"
    envs.reset(seed=2)
    envs.close()
    with pytest.raises(ConfigError, match="num_envs is 3; it must be a multiple of the 2 tasks"):
        gymnasium.make_vec("mtrl_ntk/Tasks-v0", num_envs=3, suite=suite)


def test_benchmarks_have_an_id() -> None:
    envs: Any = gymnasium.make_vec("mtrl_ntk/MT10-v0", tasks=task_names("MT10")[:1], horizon=3)
    assert (envs.task_names, envs.single_action_space.shape) == (("reach-v3",), (4,))
    envs.close()
    ids = {name for name in gymnasium.registry if name.startswith("mtrl_ntk/")}
    assert ids == {f"mtrl_ntk/{name}-v0" for name in ("MT10", "MT25", "MT50", "Tasks")}
