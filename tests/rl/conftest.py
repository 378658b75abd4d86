"""Environments that tests share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mtrl_ntk.rl.envs.task_env import TaskEnv
from mtrl_ntk.rl.suites.suite import EpisodeRules
from tests.simulations import shared_env

Simulation = Any


@pytest.fixture
def make_env(monkeypatch: pytest.MonkeyPatch) -> Callable[..., TaskEnv]:
    """Environments on shared simulations, since loading a model takes most of a test's time."""

    def make(name: str = "reach-v3", *, seed: int = 0, **rules: Any) -> TaskEnv:  # noqa: ANN401
        env = shared_env(name)
        monkeypatch.setattr(env, "rules", EpisodeRules(**rules))
        monkeypatch.setattr(env, "_copy", 0)
        monkeypatch.setattr(env, "_copies", 1)
        env.reseed(seed)
        return env

    return make
