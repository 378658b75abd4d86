"""The numbers that each option may take."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mtrl_ntk.errors import ConfigError
from mtrl_ntk.experiment.options.fields import leaves


@dataclass(frozen=True)
class Range:
    """The numbers from low to high; low itself is left out when ``above``."""

    low: int
    high: float = math.inf
    above: bool = False
    most: float = math.inf
    """What no machine and no study gets near: above it is a slip of the finger, which would fill
    the memory or never end."""

    def __contains__(self, value: float) -> bool:
        allowed = self.low <= value <= min(self.high, self.most)
        return allowed and not (self.above and value == self.low)

    def required_of(self, value: float) -> str:
        """What a value that is not in the range must be."""
        if self.most < value:
            return f"at most {self.most}"
        if self.high == math.inf:
            return f"above {self.low}" if self.above else f"at least {self.low}"
        low = f"above {self.low} and at most" if self.above else f"from {self.low} to"
        return f"{low} {self.high}"


_COUNT = Range(1, most=10**12)
_NOT_NEGATIVE = Range(0, most=10**12)
_UNITS = Range(1, most=2**16)
_POSITIVE = Range(0, above=True, most=10**6)
_SHARE = Range(0, 1, above=True)
_LOG_STD = Range(-100, 20)
_MOST_PROCESSES = 1024

RANGES = {
    "seed": Range(0, 2**32 - 1),  # what NumPy takes
    "threads": Range(0, most=_MOST_PROCESSES),
    "envs_per_task": Range(1, most=_MOST_PROCESSES),
    "horizon": Range(1, 500),
    "workers": Range(-1, most=_MOST_PROCESSES),
    "worker_timeout": _POSITIVE,
    "worker_restarts": _NOT_NEGATIVE,
    "restart_window": _COUNT,
    "batch_size": _COUNT,
    "gamma": _SHARE,
    "tau": _SHARE,
    "policy_tau": _SHARE,
    "learning_rate": _POSITIVE,
    "temperature_learning_rate": _POSITIVE,
    "adam_epsilon": _POSITIVE,
    "max_grad_norm": _NOT_NEGATIVE,
    "embedding_dim": _UNITS,
    "width": _UNITS,
    "depth": Range(1, most=100),
    "log_std_min": _LOG_STD,
    "log_std_max": _LOG_STD,
    "initial_temperature": _POSITIVE,
    "reward_scale": _POSITIVE,
    "total_steps": _COUNT,
    "warmstart_steps": _COUNT,
    "updates_per_step": Range(0, above=True, most=1000),
    "replay_capacity": _COUNT,
    "log_every": _COUNT,
    "checkpoint_every": _NOT_NEGATIVE,
    "keep_checkpoints": _COUNT,
    "kernel_every": _NOT_NEGATIVE,
    "kernel_minibatches": _COUNT,
    "evaluate_every": _COUNT,
    "evaluation_episodes": Range(1, most=10_000),
    "video_every": _NOT_NEGATIVE,
    "video_size": Range(64, 1920),
    "video_stride": Range(1, 80),
    "video_episodes": Range(1, 50),
}
"""Ranges of a run's options by name; a method checks its own options when its config is made."""

_OTHER_RANGES = {
    "jobs": Range(0, most=_MOST_PROCESSES),
    "cpus": Range(0, most=_MOST_PROCESSES),
    "gpus": Range(0, most=_MOST_PROCESSES),
    "mem": Range(0, most=100_000),
    "last": _COUNT,
    "least_affinity": Range(-1, 1),
    "resamples": Range(1, most=100_000),
}
"""Ranges of options that only sweeps and reports have."""


def check_ranges(config: object) -> None:
    """Checks all leaf fields of a dataclass instance.

    Raises:
        ConfigError: A number is out of its range.
    """
    ranges = RANGES | _OTHER_RANGES
    for name, value in leaves(config).items():
        allowed = ranges.get(name)
        if allowed and isinstance(value, (int, float)) and value not in allowed:
            raise ConfigError(f"{name} is {value}; it must be {allowed.required_of(value)}")
