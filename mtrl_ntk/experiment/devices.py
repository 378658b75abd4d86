"""Where a run computes, and what it draws from: device, threads, seeds of random streams."""

from __future__ import annotations

import os
import re

import numpy as np
import torch

from mtrl_ntk.errors import UserError
from mtrl_ntk.experiment.config import RunConfig
from mtrl_ntk.experiment.families import Configuration
from mtrl_ntk.rl.envs import resolved_workers, usable_cores
from mtrl_ntk.rl.seeds import seed_of


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
    entropy = [seed_of(seed), *stream.encode()]
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0]) >> 1


def learner_threads(config: RunConfig) -> int:
    """Threads of PyTorch that a configuration means on this machine."""
    # No more than do not compete with the workers; two busy teams on a core stall each other.
    return asked_threads(config) or max(1, usable_cores() - resolved_workers(config.env))


def asked_threads(config: Configuration) -> int:
    """Threads of PyTorch that the user asks for, by option or environment; 0 for none."""
    in_environment = re.match(r"\s*(\d{1,4})\b", os.environ.get("OMP_NUM_THREADS", ""))
    return config.threads or (int(in_environment[1]) if in_environment else 0)
