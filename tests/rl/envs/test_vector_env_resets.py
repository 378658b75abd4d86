"""Resets with a seed, or of some environments only: what they change, and no more."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from numpy.typing import NDArray

from mtrl_ntk.errors import ConfigError
from mtrl_ntk.rl.envs import MultiTaskVectorEnv
from mtrl_ntk.rl.envs.workers import WorkerPool
from tests.points import POINTS

TASKS, COPIES, HORIZON = ("light", "heavy"), 2, 5
MASK = np.array([True, False, False, True])


def make(workers: int = 0, **arguments: Any) -> MultiTaskVectorEnv:  # noqa: ANN401
    options = {"seed": 1, "horizon": HORIZON, "envs_per_task": COPIES} | arguments
    return MultiTaskVectorEnv(TASKS, workers=workers, suite=POINTS, **options)


@pytest.fixture
def envs() -> Iterator[MultiTaskVectorEnv]:
    """After a reset and three steps."""
    with closing(make(reward_normalization="running_variance")) as envs:
        envs.reset()
        for action in actions(3):
            envs.step(action)
        yield envs


def actions(steps: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).uniform(-1, 1, (steps, 4, 2)).astype(np.float32)


def as_bytes(state: dict[str, Any]) -> dict[str, object]:
    return {
        name: value.tobytes() if isinstance(value, np.ndarray) else repr(value)
        for name, value in state.items()
    }


def taken(envs: MultiTaskVectorEnv, steps: int = 12) -> list[bytes]:
    return [part.tobytes() for action in actions(steps, 1) for part in envs.step(action)[:4]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed": -1}, "seed is -1"),
        ({"seed": np.int64(-3)}, "seed is "),
        ({"seed": True}, "seed is True"),
        ({"seed": 0.5}, "seed is 0.5"),
        ({"seed": [1, 2, 3, 4]}, r"seed is \[1, 2, 3, 4\]"),
        ({"options": {"goal": 3, "mask": 1}}, r"reset_mask alone, not \['goal', 'mask'\]"),
        ({"options": {"reset_mask": MASK, "goal": 1}}, r"not \['goal'\]"),
        ({"options": {"reset_mask": MASK[:3]}}, "it must be 4 bools"),
        ({"options": {"reset_mask": MASK.astype(int)}}, "it must be 4 bools"),
        ({"options": {"reset_mask": np.zeros(4, bool)}}, "not all false"),
        ({"options": {"reset_mask": None}}, "it must be 4 bools"),
        ({"seed": 3, "options": {"reset_mask": MASK}}, "a seed is that of all environments"),
    ],
)
def test_what_cannot_be_followed_is_refused_and_changes_nothing(
    envs: MultiTaskVectorEnv, arguments: dict[str, Any], message: str
) -> None:
    before = envs.state()
    with pytest.raises(ValueError, match=message) as error:
        envs.reset(**arguments)
    assert isinstance(error.value, ConfigError) == message.startswith("seed is ")
    assert as_bytes(envs.state()) == as_bytes(before)
    with closing(make(reward_normalization="running_variance")) as others:
        others.restore(before)
        assert taken(envs) == taken(others)


def test_a_mask_before_the_first_reset_is_refused() -> None:
    with closing(make()) as envs, pytest.raises(ValueError, match="the first reset is of all"):
        envs.reset(options={"reset_mask": MASK})


def test_a_numpy_integer_is_the_same_seed(envs: MultiTaskVectorEnv) -> None:
    first = envs.reset(seed=7)[0].tobytes(), taken(envs)
    assert (envs.reset(seed=np.uint32(7))[0].tobytes(), taken(envs)) == first  # type: ignore[arg-type]
    assert type(envs.state()["seed"]) is int


@pytest.mark.parametrize("workers", [0, 2])
def test_a_mask_resets_some_and_lets_the_others_go_on(workers: int) -> None:
    """Each row is as if its environment had been alone, reset then and stepped as it was."""
    with closing(make(workers, goal_mode="in_order")) as envs, closing(make()) as reference:
        reference.reset()
        goals = [env.goals[:, 0].astype(np.float32) for env in reference._stepper.envs.values()]  # type: ignore[attr-defined]
        first, _ = envs.reset()
        options = {"reset_mask": MASK}
        for action in actions(3):
            before = envs.step(action)[0]
        observations, infos = envs.reset(options=options)
        assert list(options) == ["reset_mask"]
        assert infos == {}
        np.testing.assert_array_equal(observations[~MASK], before[~MASK])
        # Place and speed zero; copy c runs the goals c, c + 2, ... in turn.
        np.testing.assert_array_equal(observations[MASK, :2], 0)
        assert first[:, 2].tolist() == [goals[0][0], goals[1][1], goals[2][0], goals[3][1]]
        assert observations[MASK, 2].tolist() == [goals[0][2], goals[3][3]]
        # The episodes of the others end as long after their own beginning as ever.
        ends = [envs.step(action)[3].tolist() for action in actions(5)]
        assert ends[1] == (~MASK).tolist()
        assert ends[4] == MASK.tolist()
        assert not any(map(any, (ends[0], ends[2], ends[3])))


@pytest.mark.parametrize("goal_mode", ["resampled", "in_order", "fixed"])
@pytest.mark.parametrize("workers", [0, 1])
def test_a_state_knows_of_masked_resets(workers: int, goal_mode: str) -> None:
    with closing(make(workers, goal_mode=goal_mode)) as envs:
        envs.reset()
        for step, action in enumerate(actions(9)):
            observations = envs.step(action)[0]
            if step in (2, 3, 7):
                observations, _ = envs.reset(options={"reset_mask": np.roll(MASK, step)})
        state = envs.state()
        with closing(make(goal_mode=goal_mode)) as others:
            assert others.restore(state).tobytes() == observations.tobytes()
            assert taken(envs) == taken(others)


def test_a_worker_that_is_lost_in_a_masked_reset_is_replaced() -> None:
    outcomes = []
    reports: list[str] = []
    for workers in (0, 2):
        with closing(make(workers, report=reports.append)) as envs:
            envs.reset()
            for action in actions(3):
                envs.step(action)
            if isinstance(envs._stepper, WorkerPool):
                for worker in envs._stepper._workers:
                    assert worker.process.pid
                    os.kill(worker.process.pid, signal.SIGKILL)
            observations, _ = envs.reset(options={"reset_mask": MASK})
            outcomes.append([observations.tobytes(), *taken(envs)])
    assert outcomes[0] == outcomes[1]
    assert len(reports) == 2


def test_masks_are_gymnasium_s(envs: MultiTaskVectorEnv) -> None:
    """Its own vector environment, too, returns for the other rows what they showed before."""
    assert envs.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    theirs = SyncVectorEnv([lambda: gymnasium.make("Pendulum-v1")] * 4)
    theirs.reset(seed=0)
    for each, action in ((theirs, np.zeros((4, 1), np.float32)), (envs, actions(1)[0])):
        before = each.step(action)[0]
        after, _ = each.reset(options={"reset_mask": MASK})
        np.testing.assert_array_equal((after == before).all(1), ~MASK)
    theirs.close()
