"""Agents: made as configured; their policies found and loaded where they are trained, and asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor

from mtrl_ntk.errors import ConfigError, UserError
from mtrl_ntk.experiment.checkpoints.archive import (
    REPLAY,
    Found,
    best_checkpoint,
    checkpoints,
    load_newest,
)
from mtrl_ntk.experiment.checkpoints.checkpoint import (
    MANIFEST,
    CheckpointError,
    save_checkpoint,
)
from mtrl_ntk.experiment.checkpoints.pretrained import PREFIX, is_pretrained, pretrained_folder
from mtrl_ntk.experiment.checkpoints.run_state import STATE
from mtrl_ntk.experiment.config import RUNS, RunConfig
from mtrl_ntk.experiment.devices import resolve_device, stream_seed
from mtrl_ntk.experiment.families import command_of
from mtrl_ntk.experiment.files.layout import CHECKPOINT, EVALUATION_CSV
from mtrl_ntk.experiment.options.values import counted, shown
from mtrl_ntk.experiment.plugins import method_class
from mtrl_ntk.experiment.types import PolicyFunction
from mtrl_ntk.rl.features import make_features
from mtrl_ntk.rl.networks import Actor
from mtrl_ntk.rl.replay import MultiTaskReplayBuffer, free_memory
from mtrl_ntk.rl.sac import (
    MultiTaskSAC,
    SacConfig,
    copy_tensors,
    make_actor,
    make_critic,
    make_weighting,
    tensors_of,
)
from mtrl_ntk.rl.suites.registry import SUITES
from mtrl_ntk.rl.suites.suite import EpisodeRules, Suite
from mtrl_ntk.rl.types import FloatArray


def make_agent(config: RunConfig, num_tasks: int, device: torch.device) -> MultiTaskSAC:
    """Makes the untrained agent of a run.

    Raises:
        UserError: If its networks do not fit into the memory, or its method is not known here.
    """
    method, suite = method_class(config.method), config.env.task_suite
    features = make_features(config.env.features, suite, num_tasks)
    _require_memory(config.sac, num_tasks, features.dim, device, copies=_NETWORKS * _COPIES)
    return MultiTaskSAC(
        num_tasks,
        suite.observation_dim,
        suite.action_dim,
        config=config.sac,
        make_weighting=partial(
            make_weighting,
            method,
            config.weighting,
            num_tasks,
            balance=config.sac.balance,
        ),
        seed=stream_seed(config.seed, "agent"),
        device=device,
        features=features,
        num_updates=max(config.loop.updates_by(config.loop.decay_end), 1),
    )


def _require_memory(
    config: SacConfig, num_tasks: int, num_features: int, device: torch.device, copies: int
) -> None:
    """Refuses networks that cannot fit, before any of them is made.

    Counts what there is at least: hidden layers, each so many times.
    """
    architecture = config.architecture(num_tasks)
    inputs = num_features + architecture.vector_dim + (config.depth - 1) * config.width
    hidden = max(architecture.hidden_copies, 1) * config.width * inputs
    weights = hidden + num_tasks * architecture.vector_dim
    needed = copies * weights * torch.float32.itemsize
    available = free_memory(device)
    if needed > available:
        raise UserError(
            f"the networks need {needed / 1e9:.1f} GB on {device.type}, {available / 1e9:.1f} GB "
            "are free: set a smaller --width or --depth"
        )


_NETWORKS = 3
"""The actor and the two critics."""
_COPIES = 4
"""Of each while it learns: one that follows, and Adam's two moments."""


def make_replay(config: RunConfig, num_tasks: int, device: torch.device) -> MultiTaskReplayBuffer:
    """Makes the empty replay of a run.

    Raises:
        UserError: If the memory does not suffice.
    """
    return MultiTaskReplayBuffer(
        num_tasks,
        config.loop.replay_capacity,
        config.env.task_suite.observation_dim,
        config.env.task_suite.action_dim,
        device=device,
        generator=torch.Generator(device).manual_seed(stream_seed(config.seed, "replay")),
    )


def load_actor(
    config: RunConfig, found: Found, num_tasks: int, device: torch.device, suite: Suite
) -> Actor:
    """Makes the policy of a run, as it is evaluated, with the weights of a checkpoint.

    Nothing else of the agent need be there.

    Args:
        config: The run's configuration.
        found: The checkpoint.
        num_tasks: Number of tasks.
        device: Where the policy lives.
        suite: What the tasks belong to.

    Raises:
        CheckpointError: If the checkpoint is not of this configuration.
    """
    features = make_features(config.env.features, suite, num_tasks).to(device, torch.float32)
    _require_memory(config.sac, num_tasks, features.dim, device, copies=1)
    with torch.random.fork_rng(devices=[]):  # its first weights are drawn, and not kept
        actor = make_actor(config.sac, features, num_tasks, suite.action_dim)
    actor.to(device, torch.float32)
    saved = found.checkpoint.tensors
    own = tensors_of({"features": features, config.sac.policy_name: actor})
    try:
        copy_tensors(policy_tensors(config.sac, saved), own)
        if critic := _part(saved, "critic"):  # there is none beside a policy alone
            with torch.device("meta"):
                of_config = make_critic(config.sac, features, num_tasks, suite.action_dim)
            copy_tensors(critic, tensors_of({"critic": of_config}))
    except ValueError as error:
        raise CheckpointError(f"{found.folder} is of another configuration: {error}") from error
    return actor


def policy_tensors(config: SacConfig, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Those of an agent's tensors that its policy is made of."""
    return _part(tensors, "features", config.policy_name)


def _part(tensors: Mapping[str, Tensor], *modules: str) -> dict[str, Tensor]:
    return {name: value for name, value in tensors.items() if name.partition(".")[0] in modules}


def policy_of(actor: Actor) -> PolicyFunction:
    """The policy that is evaluated, NumPy in and out: the mode, without noise."""
    device = device_of(actor)

    @torch.no_grad()
    def policy(observations: FloatArray) -> FloatArray:
        actions = actor.mode(torch.from_numpy(observations).to(device))
        result: FloatArray = actions.cpu().numpy()
        return result

    return policy


def device_of(actor: Actor) -> torch.device:
    """Where a policy lives."""
    return next(actor.parameters()).device


@dataclass(frozen=True)
class Trained:
    """A trained policy and where it comes from."""

    folder: Path
    """Folder of the checkpoint."""
    config: RunConfig
    """Settings of its run."""
    task_names: tuple[str, ...]
    """Tasks it was trained on, in the order of its task axis."""
    actor: Actor
    """The policy that is evaluated."""
    metadata: dict[str, Any]
    """What the checkpoint says about itself."""
    suite: Suite
    """What its tasks belong to; one that simulates nothing where the user's is not imported."""
    tensors: Mapping[str, Tensor]
    """What the policy is made of, by the names in a checkpoint."""

    @property
    def origin(self) -> str:
        """What it can be loaded by."""
        is_ours = is_pretrained(self.folder)
        return f"{PREFIX}{self.folder.name}" if is_ours else str(self.folder)

    @property
    def home(self) -> Path:
        """The folder of its run, or what the checkpoint lies in.

        The working directory for what came with the package.
        """
        if is_pretrained(self.folder):
            return Path()
        parent = self.folder.resolve().parent
        return parent.parent if parent.name == CHECKPOINT else parent


BEST, LAST = "best", "last"
"""Names of the checkpoints of a run with the best evaluation, and of the newest that is whole."""


def load_trained(path: Path, device: str = "cpu", checkpoint: str = LAST) -> Trained:
    """Loads the policy of a run, or of one of its checkpoints.

    Args:
        path: Folder of a run, of a checkpoint, or a file in one; or ``pretrained:NAME``.
        device: ``auto``, ``cpu`` or ``cuda``.
        checkpoint: Which of a run's checkpoints: ``last``, ``best``, or its name.

    Raises:
        UserError: If there is no policy that can be loaded.
    """
    found = load_newest(_checkpoint_in(path, checkpoint))
    metadata = found.checkpoint.metadata
    if not isinstance(metadata.get("config"), dict):
        raise CheckpointError(f"{found.folder} does not say what kind of agent it holds")
    if (command := command_of(metadata["config"])) not in (None, RUNS.command):
        raise UserError(
            f"{found.folder} holds no agent but what {command} has trained, which was evaluated "
            f"meanwhile: see {EVALUATION_CSV} of its run, or report_mt10"
        )
    counters = metadata.get("counters")
    if not isinstance(counters, dict) or type(counters.get("vector_steps")) is not int:
        raise CheckpointError(f"{found.folder} does not say how far its run was")
    config = RUNS.recorded(metadata["config"], str(found.folder))
    names = config.env.task_names
    suite = SUITES.get(config.env.suite) or _recorded_suite(config, found)
    actor = load_actor(config, found, len(names), resolve_device(device), suite)
    tensors = policy_tensors(config.sac, found.checkpoint.tensors)
    return Trained(found.folder, config, names, actor, metadata, suite, tensors)


def save_policy(trained: Trained, folder: Path) -> None:
    """Saves a policy alone, as a checkpoint that no run can go on from.

    Args:
        trained: The policy.
        folder: The checkpoint's folder.

    Raises:
        UserError: If there is something in it.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} exists and is not an empty folder: not overwritten")
    kept = {k: v for k, v in trained.metadata.items() if k not in (STATE, REPLAY)}
    # The places of whoever has trained it are of no use elsewhere.
    config = {**kept["config"], "run_dir": None, "resume": None, "plugin": []}
    save_checkpoint(folder, trained.tensors, {**kept, "config": config})


def _recorded_suite(config: RunConfig, found: Found) -> Suite:
    """What a checkpoint knows of tasks that are not imported: enough to ask the agent."""
    dims = found.checkpoint.metadata.get("dims")
    if not isinstance(dims, list) or [type(dim) for dim in dims] != [int, int]:
        raise CheckpointError(f"{found.folder} does not say what the spaces of its tasks are")
    observation_dim, action_dim = dims
    name = config.env.suite
    return Suite(
        name=name,
        title=name,
        observation_dim=observation_dim,
        action_dim=action_dim,
        tasks=config.env.task_names,
        benchmarks={},
        goals_per_task=1,
        max_horizon=config.env.horizon,
        simulate=partial(_simulate_nothing, name),
    )


def _simulate_nothing(suite: str, task: str, rules: EpisodeRules) -> NoReturn:
    del task, rules
    raise ConfigError(f"suite {suite} is not imported")


def _checkpoint_in(path: Path, name: str) -> Path:
    path = pretrained_folder(path)
    if not path.exists():
        raise UserError(f"{path} does not exist; give the folder of a run or of a checkpoint")
    if path.is_file():
        return path.parent
    inside = path / CHECKPOINT
    folder = inside if inside.is_dir() else path
    if not (folder / MANIFEST).exists() and not checkpoints(folder):
        raise UserError(f"{path} is neither a run with checkpoints nor a checkpoint")
    return folder if name == LAST else _named(folder, name)


def _named(folder: Path, name: str) -> Path:
    """The checkpoint of a name in the folder of a run's checkpoints."""
    best, known = best_checkpoint(folder), {path.name: path for path in checkpoints(folder)}
    found = best if name == BEST else known.get(name)
    if found is None:
        names = [*([BEST] if best else []), LAST, *known]
        raise UserError(f"{folder} has no checkpoint {shown(name)}; possible: {', '.join(names)}")
    return found


def sampled_policy(actor: Actor, seed: int) -> PolicyFunction:
    """A policy that draws its actions, from the network whose mode is usually evaluated.

    Args:
        actor: The policy.
        seed: Seed of the draws, which share no stream with training.
    """
    device = device_of(actor)
    generator = torch.Generator(device).manual_seed(stream_seed(seed, "evaluation"))

    @torch.no_grad()
    def policy(observations: FloatArray) -> FloatArray:
        mean, log_std = actor(torch.from_numpy(observations).to(device))
        noise = torch.randn(mean.shape, generator=generator, device=device)
        actions: FloatArray = (mean + log_std.exp() * noise).tanh().cpu().numpy()
        return actions

    return policy


def policy_on(
    trained: Trained, tasks: Sequence[str], *, sampled: bool, seed: int
) -> PolicyFunction:
    """The policy of a trained agent on tasks that it may not have been trained on in this order.

    Args:
        trained: The agent.
        tasks: Tasks to act in; the policy's first axis.
        sampled: Whether actions are drawn rather than the policy's mode.
        seed: Seed of the draws.

    Raises:
        UserError: If the agent cannot be asked about these tasks.
    """
    places = places_of(tasks, trained.task_names)
    policy = sampled_policy(trained.actor, seed) if sampled else policy_of(trained.actor)
    if places == list(range(len(trained.task_names))):
        return policy

    def policy_of_some(observations: FloatArray) -> FloatArray:
        of_all = np.zeros((len(trained.task_names), *observations.shape[1:]), np.float32)
        of_all[places] = observations
        return policy(of_all)[places]

    return policy_of_some


def places_of(tasks: Sequence[str], trained: Sequence[str]) -> list[int]:
    """Which of an agent's tasks each of some tasks is taken for.

    Tasks that the agent was trained on are found by their names. As many others as it has tasks
    take the places of these, in order.

    Raises:
        UserError: If they are neither.
    """
    if set(tasks) <= set(trained):
        return [list(trained).index(task) for task in tasks]
    if len(tasks) == len(trained):
        return list(range(len(trained)))
    unknown = next(task for task in tasks if task not in trained)
    raise UserError(
        f"the agent was not trained on {unknown}; give some of its tasks, {', '.join(trained)}, "
        f"or {counted(len(trained), 'task')} to take their places, not {len(tasks)}"
    )
