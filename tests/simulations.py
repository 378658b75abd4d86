"""Meta-World's tasks for tests, and the simulations within them."""

from functools import cache
from typing import Any

from mtrl_ntk.rl.envs import TaskEnv


def sawyer(env: TaskEnv) -> Any:  # noqa: ANN401 - whatever a test does to it
    simulation: Any = env.simulation
    return simulation.env


@cache
def shared_env(name: str) -> TaskEnv:
    return TaskEnv(name, seed=0)
