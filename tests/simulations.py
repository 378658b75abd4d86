"""The environments of Meta-World within those that are tested."""

from typing import Any

from mtrl_ntk.rl.envs import TaskEnv


def sawyer(env: TaskEnv) -> Any:  # noqa: ANN401 - whatever a test does to it
    simulation: Any = env.simulation
    return simulation.env
