"""Tasks one by one, in worker processes, and together as one vector environment."""

from mtrl_ntk.rl.envs.bundle import SimulationError
from mtrl_ntk.rl.envs.config import EnvConfig, resolved_workers, usable_cores
from mtrl_ntk.rl.envs.task_env import TaskEnv
from mtrl_ntk.rl.envs.vector_env import MultiTaskVectorEnv, StepResults, make_envs
from mtrl_ntk.rl.envs.workers import RestartRules, WorkerError
from mtrl_ntk.rl.suites.metaworld.suite import METAWORLD
from mtrl_ntk.rl.suites.suite import EpisodeRules

OBSERVATION_DIM, ACTION_DIM = METAWORLD.observation_dim, METAWORLD.action_dim
BENCHMARKS, task_names = METAWORLD.benchmarks, METAWORLD.task_names

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
