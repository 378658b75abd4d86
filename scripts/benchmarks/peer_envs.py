"""EnvPool's Meta-World, which is written in C++: a yardstick of throughput.

It is no substitute: it has another MuJoCo, draws goals of its own and is not bit-identical. The
package is not among the extras, as it takes 0.8 GB with its assets and does not exist for Python
3.10: ``pip install envpool``.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

import numpy as np
from numpy.typing import NDArray


class EnvPools:
    """A pool with one environment and one thread for each task, all stepped at once.

    Args:
        tasks: Meta-World's names of the tasks.
    """

    def __init__(self, tasks: Sequence[str]) -> None:
        envpool = import_module("envpool")
        self.num_envs = len(tasks)
        self._pools = [
            envpool.make_gymnasium(pool_name(task), num_envs=1, num_threads=1, seed=0)
            for task in tasks
        ]
        for pool in self._pools:
            pool.reset()

    def step(self, actions: NDArray[np.float32]) -> None:
        """Steps all of them with ``[envs, 4]`` actions; ended episodes start anew by themselves."""
        for pool, action in zip(self._pools, actions, strict=True):
            pool.send(action[None], np.zeros(1, np.int32))
        for pool in self._pools:
            pool.recv()

    def close(self) -> None:
        """Ends the pools' threads."""
        for pool in self._pools:
            pool.close()
        self._pools = []


def pool_name(task: str) -> str:
    """EnvPool's name of a task: ``push-back-v3`` is ``MetaWorld/PushBack-v3``."""
    *words, version = task.split("-")
    return f"MetaWorld/{''.join(word.capitalize() for word in words)}-{version}"
