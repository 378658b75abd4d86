"""Environments that share a model are as apart as those that do not."""

from __future__ import annotations

import gc
import weakref
from collections import deque
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mtrl_ntk.rl.envs import BENCHMARKS
from mtrl_ntk.rl.suites.metaworld import shared_model
from mtrl_ntk.rl.suites.metaworld.simulation import draw_goals, make_sim, set_goal
from tests.sameness import is_same

Simulation = Any

PLACED = ("box-close-v3", "door-open-v3", "peg-unplug-side-v3", "soccer-v3")
"""Tasks whose goals move bodies of the model."""


def twins(name: str, *, lean: bool) -> tuple[Simulation, Simulation]:
    return make_sim(name, lean=lean), make_sim(name, lean=lean)


def arrays(sim: Simulation) -> dict[str, NDArray[Any]]:
    """All numbers of an environment's model."""
    found = {name: getattr(sim.model, name) for name in dir(sim.model)}
    return {name: each.copy() for name, each in found.items() if isinstance(each, np.ndarray)}


@pytest.mark.parametrize("name", PLACED)
def test_in_turns_they_do_what_stock_environments_do(name: str) -> None:
    lean, stock = twins(name, lean=True), twins(name, lean=False)
    assert lean[0].model is lean[1].model
    assert stock[0].model is not stock[1].model
    rng = np.random.default_rng(0)
    goals = draw_goals(lean[0], np.random.default_rng(1))
    for step in range(60):
        for index in (0, 1):
            pair = lean[index], stock[index]
            if step % 30 == 15 * index:  # while the other one is in the midst of an episode
                for sim in pair:
                    set_goal(sim, goals[step + index])
                assert is_same(*(sim.reset() for sim in pair))
            action = rng.uniform(-1, 1, 4).astype(np.float32)
            if step >= 15 * index:
                assert is_same(*(sim.step(action.copy()) for sim in pair))
    for own, other in zip(lean, stock, strict=True):
        assert is_same(own.model.body_pos, other.model.body_pos)
        assert is_same(own.model.site_pos, other.model.site_pos)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in PLACED else pytest.mark.slow)
        for name in BENCHMARKS["MT50"]
    ],
)
def test_episodes_change_positions_and_nothing_else(name: str) -> None:
    used, new = make_sim(name), make_sim(name, lean=False)
    loaded = arrays(new)
    assert len(loaded) > 100
    for goal in draw_goals(used, np.random.default_rng(0))[:2]:
        set_goal(used, goal)
        used.reset()
        for action in np.random.default_rng(1).uniform(-1, 1, (20, 4)):
            used.step(action)
    changed = {key for key, each in arrays(used).items() if not is_same(each, loaded[key])}
    assert changed <= {"body_pos", "site_pos"}
    assert is_same(arrays(make_sim(name)), loaded), "a new one begins as loaded"


def test_a_model_goes_with_its_last_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    # What other tests have left there would be shared, and kept by them.
    monkeypatch.setattr(shared_model, "_latest", deque(maxlen=1))
    monkeypatch.setattr(shared_model, "_in_use", weakref.WeakValueDictionary())
    first: Simulation = make_sim("reach-v3")
    kept = weakref.ref(first._loan._shared)
    for name, is_shared in (("reach-v3", True), ("push-v3", False)):
        another: Simulation = make_sim(name)
        assert (another._loan._shared is kept()) is is_shared
    del first
    gc.collect()
    assert kept() is None
