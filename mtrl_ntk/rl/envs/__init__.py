"""Meta-World tasks: one by one, in worker processes, and together as one vector environment."""

from mtrl_ntk.rl.envs.bundle import SimulationError
from mtrl_ntk.rl.envs.config import EnvConfig, resolved_workers, usable_cores
from mtrl_ntk.rl.envs.task_env import (
    ACTION_DIM,
    BENCHMARKS,
    OBSERVATION_DIM,
    EpisodeRules,
    TaskEnv,
    task_names,
)
from mtrl_ntk.rl.envs.vector_env import MultiTaskVectorEnv, StepResults, make_envs
from mtrl_ntk.rl.envs.workers import RestartRules, WorkerError

__all__ = [
    "ACTION_DIM",
    "BENCHMARKS",
    "OBSERVATION_DIM",
    "EnvConfig",
    "EpisodeRules",
    "MultiTaskVectorEnv",
    "RestartRules",
    "SimulationError",
    "StepResults",
    "TaskEnv",
    "WorkerError",
    "make_envs",
    "resolved_workers",
    "task_names",
    "usable_cores",
]
