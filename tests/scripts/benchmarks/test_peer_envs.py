"""Peers that step environments."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from scripts.benchmarks.peer_envs import EnvPools


class Pool:
    """What is used of an EnvPool."""

    def __init__(self, name: str) -> None:
        self.done = [f"made {name}"]

    def reset(self) -> None:
        self.done.append("reset")

    def send(self, action: np.ndarray[Any, Any], ids: np.ndarray[Any, Any]) -> None:
        assert action.shape == (1, 4)
        self.done.append(f"sent {ids.tolist()}")

    def recv(self) -> None:
        self.done.append("received")

    def close(self) -> None:
        self.done.append("closed")


def test_envpool_steps_every_task_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Pool] = []

    def make(name: str, **options: int) -> Pool:
        assert options == {"num_envs": 1, "num_threads": 1, "seed": 0}
        made.append(Pool(name))
        return made[-1]

    monkeypatch.setitem(sys.modules, "envpool", SimpleNamespace(make_gymnasium=make))
    pools = EnvPools(["reach-v3", "button-press-topdown-v3"])
    pools.step(np.zeros((2, 4), np.float32))
    pools.close()
    names = ["MetaWorld/Reach-v3", "MetaWorld/ButtonPressTopdown-v3"]
    steps = ["reset", "sent [0]", "received", "closed"]
    assert [pool.done for pool in made] == [[f"made {name}", *steps] for name in names]
