"""Agents, and their replay, as configurations and checkpoints describe them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch

from mtrl_ntk.balancing.methods import METHODS
from mtrl_ntk.errors import UserError
from mtrl_ntk.experiment.checkpoints.archive import Found
from mtrl_ntk.experiment.checkpoints.checkpoint import CheckpointError
from mtrl_ntk.rl.envs import ACTION_DIM, OBSERVATION_DIM
from mtrl_ntk.rl.replay import MultiTaskReplayBuffer, free_memory
from mtrl_ntk.rl.sac import MultiTaskSAC, SacConfig, make_weighting

if TYPE_CHECKING:
    from mtrl_ntk.experiment.config import RunConfig
    from mtrl_ntk.experiment.evaluation.episodes import FloatArray, Policy

CHECKPOINT = "checkpoint"
"""Folder of the checkpoints within a run's folder."""
CONFIG = "config.yaml"
"""File of the settings within a run's folder."""


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
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> 1)


def make_agent(config: RunConfig, num_tasks: int, device: torch.device) -> MultiTaskSAC:
    """Makes the untrained agent of a run.

    Raises:
        UserError: If its networks do not fit into the memory.
    """
    _require_memory(config.sac, num_tasks, device)
    return MultiTaskSAC(
        num_tasks,
        OBSERVATION_DIM,
        ACTION_DIM,
        config=config.sac,
        make_weighting=partial(make_weighting, METHODS[config.method], config.weighting, num_tasks),
        seed=stream_seed(config.seed, "agent"),
        device=device,
    )


def _require_memory(config: SacConfig, num_tasks: int, device: torch.device) -> None:
    """Refuses networks that cannot fit, before any of them is made.

    Counts what there is at least: hidden layers, with a copy that follows and Adam's two moments.
    """
    embedding_dim = config.embedding_dim if config.network == "task_embedding" else 0
    copies = num_tasks if config.network == "independent" else 1
    inputs = OBSERVATION_DIM + embedding_dim + (config.depth - 1) * config.width
    weights = copies * config.width * inputs + num_tasks * embedding_dim
    needed = _NETWORKS * weights * 4 * torch.float32.itemsize
    available = free_memory(device)
    if needed > available:
        raise UserError(
            f"the networks need {needed / 1e9:.1f} GB on {device.type}, {available / 1e9:.1f} GB "
            "are free: set a smaller --width or --depth"
        )


_NETWORKS = 3
"""The actor and the two critics."""


def make_replay(config: RunConfig, num_tasks: int, device: torch.device) -> MultiTaskReplayBuffer:
    """Makes the empty replay of a run.

    Raises:
        UserError: If the memory does not suffice.
    """
    return MultiTaskReplayBuffer(
        num_tasks,
        config.loop.replay_capacity,
        OBSERVATION_DIM,
        ACTION_DIM,
        device=device,
        generator=torch.Generator(device).manual_seed(stream_seed(config.seed, "replay")),
    )


def load_agent(
    config: RunConfig, found: Found, num_tasks: int, device: torch.device
) -> MultiTaskSAC:
    """Makes the agent of a run with the weights of a checkpoint.

    Args:
        config: The run's configuration.
        found: The checkpoint.
        num_tasks: Number of tasks.
        device: Where the agent lives.

    Raises:
        CheckpointError: If the checkpoint is not of this configuration.
    """
    agent = make_agent(config, num_tasks, device)
    try:
        agent.load_state_dict(found.checkpoint.tensors)
    except ValueError as error:
        raise CheckpointError(f"{found.folder} is of another configuration: {error}") from error
    return agent


def policy_of(agent: MultiTaskSAC, *, deterministic: bool) -> Policy:
    """The agent as a function from observations to actions, NumPy in and out."""

    def policy(observations: FloatArray) -> FloatArray:
        actions = agent.act(
            torch.from_numpy(observations).to(agent.device), deterministic=deterministic
        )
        result: FloatArray = actions.cpu().numpy()
        return result

    return policy
