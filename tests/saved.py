"""Checkpoints of agents that nobody has trained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from mtrl_ntk.experiment.agents import make_agent
from mtrl_ntk.experiment.checkpoints.checkpoint import save_checkpoint
from mtrl_ntk.experiment.config import RunConfig, to_dict
from mtrl_ntk.rl.envs import EnvConfig
from mtrl_ntk.rl.sac import MultiTaskSAC, SacConfig

TASKS = ("reach-v3", "drawer-close-v3", "push-v3")
STEPS = 7
CONFIG = RunConfig(
    method="equal",
    seed=5,
    device="cpu",
    env=EnvConfig(tasks=TASKS, horizon=10, workers=0),
    sac=SacConfig(batch_size=8, width=16, depth=2, policy_tau=0.5),
)


def save_run(run_dir: Path, config: RunConfig = CONFIG, steps: int = STEPS) -> MultiTaskSAC:
    """Saves an agent as a run does, whose average is not its actor; returns the agent."""
    agent = make_agent(config, len(config.env.tasks), torch.device("cpu"))
    with torch.no_grad():
        for parameter in agent.average_actor.parameters():
            parameter.mul_(1.5).add_(0.05)
    metadata = {
        "task_names": config.env.tasks,
        "counters": {"vector_steps": steps},
        "config": to_dict(config),
    }
    save_checkpoint(run_dir / "checkpoint" / f"step-{steps:09d}", agent.state_dict(), metadata)
    return agent


def with_env(config: RunConfig = CONFIG, **changes: Any) -> RunConfig:  # noqa: ANN401 - many types
    """The configuration with other environments."""
    return replace(config, env=replace(config.env, **changes))
