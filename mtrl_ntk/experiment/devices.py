"""Where a run computes, and what it draws from: device, threads, seeds of random streams."""

from __future__ import annotations

import numpy as np
import torch

from mtrl_ntk.errors import UserError
from mtrl_ntk.experiment.config import RunConfig
from mtrl_ntk.rl.envs import resolved_workers, usable_cores


def resolve_device(name: str) -> torch.device:
    """Turns ``auto``, ``cpu`` or ``cuda`` into a device that is there.

    Raises:
        UserError: If CUDA was asked for and is missing.
    """
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise UserError("device cuda is not available here; use --device cpu")
    return torch.device("cuda" if name != "cpu" and available else "cpu")


def stream_seed(seed: int, stream: str) -> int:
    """Seed of one of a run's random streams; streams of different names are independent."""
    entropy = [seed, *stream.encode()]
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0]) >> 1


def learner_threads(config: RunConfig) -> int:
    """Threads of PyTorch that a configuration means on this machine."""
    return config.threads or free_cores(resolved_workers(config.env))


def free_cores(workers: int) -> int:
    """Threads that do not compete with the workers; two busy teams on a core stall each other."""
    return max(1, usable_cores() - workers)
