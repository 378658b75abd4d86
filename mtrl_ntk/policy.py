"""Trained policies for other programs: NumPy in and out, or exported to TorchScript and ONNX."""

from __future__ import annotations

import importlib.util
import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from mtrl_ntk.errors import UserError
from mtrl_ntk.experiment.agents import LAST, device_of, load_trained, save_policy
from mtrl_ntk.experiment.files.atomic import replacing
from mtrl_ntk.experiment.options.fields import suggestion
from mtrl_ntk.experiment.options.values import convert
from mtrl_ntk.rl.networks import Actor
from mtrl_ntk.rl.seeds import seed_of

Task = str | int | np.integer[Any]
"""A task by its name, or by its place among the tasks of training."""
State = tuple[NDArray[Any], ...] | None
"""What a policy with a memory would remember."""


class RowPolicy(nn.Module):
    """The deterministic policy on rows that may belong to different tasks.

    The network has the task as its first axis. Each row goes through it as one of every task, and
    the action of its own task is taken.

    Args:
        actor: The policy of all tasks.
        num_tasks: Number of tasks.
    """

    def __init__(self, actor: Actor, num_tasks: int) -> None:
        super().__init__()
        self.actor = actor
        self.num_tasks = num_tasks

    def forward(self, observations: Tensor, tasks: Tensor) -> Tensor:
        """Actions ``[rows, action]`` in [-1, 1].

        Args:
            observations: ``[rows, observation]``.
            tasks: Place of each row's task, ``[rows]``.
        """
        return self.distribution(observations, tasks)[0].tanh()

    def distribution(self, observations: Tensor, tasks: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log standard deviation before the tanh, each ``[rows, action]``."""
        mean, log_std = self.actor(observations.expand(self.num_tasks, -1, -1))
        rows = torch.arange(observations.shape[0], device=observations.device)
        return mean[tasks, rows], log_std[tasks, rows]


class Policy:
    """A trained policy: observations in, actions out; made by :func:`load_policy`.

    Attributes:
        task_names: Tasks of training; a task's place among them is its number.
    """

    def __init__(
        self,
        actor: Actor,
        task_names: Sequence[str],
        *,
        observation_dim: int,
        task: Task | None,
        deterministic: bool,
        seed: int,
        device: torch.device,
        origin: str,
    ) -> None:
        self.task_names = tuple(task_names)
        self._origin = origin
        self._rows = RowPolicy(actor, len(self.task_names)).eval().requires_grad_(False)
        self._task = 0 if len(self.task_names) == 1 else None
        if task is not None:
            self._task = self._place(task)
        self._observation_dim = observation_dim
        self._deterministic, self._device = deterministic, device
        self._generator = torch.Generator(device).manual_seed(seed)

    def __repr__(self) -> str:
        names = self.task_names
        task = "named by each call" if self._task is None else names[self._task]
        kind = "mode" if self._deterministic else "sampled"
        return f"Policy({self._origin}; task: {task}; actions: {kind}; tasks: {', '.join(names)})"

    def __call__(
        self, observations: ArrayLike, task: Task | Sequence[Task] | None = None
    ) -> NDArray[np.float32]:
        """Chooses actions.

        Args:
            observations: One observation or several ``[rows, observation]``, without a task id.
            task: Task of all rows, or one for each; by default the one given to
                :func:`load_policy`.

        Returns:
            An action, or one for each row ``[rows, action]``, in [-1, 1].

        Raises:
            ValueError: If the observations have another shape, or the task is unknown or missing.
        """
        return self.predict(observations, task=task)[0]

    @torch.no_grad()
    def predict(
        self,
        observation: ArrayLike,
        state: State = None,
        episode_start: object = None,  # noqa: ARG002 - of an interface that others call
        deterministic: bool | None = None,
        *,
        task: Task | Sequence[Task] | None = None,
    ) -> tuple[NDArray[np.float32], State]:
        """Chooses actions, called and answering as the policies of Stable-Baselines3.

        Args:
            observation: As for a call of the policy.
            state: Returned as it is, since the policy has no memory.
            episode_start: Without effect, for the same reason.
            deterministic: Whether to take the mode rather than a sample; by default what was given
                to :func:`load_policy`, whereas Stable-Baselines3 then draws a sample.
            task: As for a call of the policy.

        Returns:
            The actions, as of a call, and the state.

        Raises:
            ValueError: As for a call.
        """
        # A copy: PyTorch takes no reversed arrays, and warns of those that may not be written.
        values = np.array(observation, dtype=np.float32, order="C")
        features = self._observation_dim
        if values.ndim not in (1, 2) or values.shape[-1] != features:
            raise ValueError(
                f"observations have the shape {values.shape}; it must be ({features},) or "
                f"(rows, {features}), without a one-hot task id"
            )
        rows = torch.from_numpy(np.atleast_2d(values)).to(self._device)
        places = self._places(task, len(rows))
        tasks = torch.tensor(places, dtype=torch.int64, device=self._device)
        mode = self._deterministic if deterministic is None else deterministic
        actions: NDArray[np.float32] = self._act(rows, tasks, mode).cpu().numpy()
        return actions.reshape(*values.shape[:-1], actions.shape[-1]), state

    def _act(self, rows: Tensor, tasks: Tensor, deterministic: bool) -> Tensor:
        if deterministic:
            actions: Tensor = self._rows(rows, tasks)
            return actions
        mean, log_std = self._rows.distribution(rows, tasks)
        noise = torch.randn(
            mean.shape, generator=self._generator, device=self._device, dtype=mean.dtype
        )
        return (mean + log_std.exp() * noise).tanh()

    def _places(self, task: Task | Sequence[Task] | None, num_rows: int) -> list[int]:
        if task is None:
            if self._task is None:
                raise ValueError(f"task is missing; possible: {', '.join(self.task_names)}")
            return [self._task] * num_rows
        if isinstance(task, str | int | np.integer):
            return [self._place(task)] * num_rows
        places = [self._place(each) for each in task]
        if len(places) != num_rows:
            raise ValueError(f"there are {len(places)} tasks for {num_rows} observations")
        return places

    def _place(self, task: Task) -> int:
        if isinstance(task, str):
            if task not in self.task_names:
                hint = suggestion(task, self.task_names)
                raise ValueError(f"the policy does not know the task {task!r}; {hint}")
            return self.task_names.index(task)
        if not 0 <= task < len(self.task_names):
            raise ValueError(f"task is {task}; it must be from 0 to {len(self.task_names) - 1}")
        return int(task)


def load_policy(
    path: str | Path,
    *,
    checkpoint: str = LAST,
    task: Task | None = None,
    deterministic: bool = True,
    seed: int = 0,
    device: str = "cpu",
) -> Policy:
    """Loads the policy of a run, of one of its checkpoints, or one that comes with the package.

    Args:
        path: Folder of a run, of a checkpoint, or a file in one; or ``pretrained:mt10``.
        checkpoint: Which of a run's checkpoints: ``last``, ``best``, or its name.
        task: Task that the policy acts in when a call names none.
        deterministic: Take the policy's mode, as evaluations do, instead of a sample.
        seed: Seed of samples.
        device: ``auto``, ``cpu`` or ``cuda``.

    Raises:
        UserError: If there is no agent that can be loaded.
        ValueError: If the agent does not know the task.
    """
    seed = seed_of(seed)
    trained = load_trained(_path(path), device, checkpoint)
    config, steps = trained.config, trained.metadata["counters"]["vector_steps"]
    return Policy(
        trained.actor,
        trained.task_names,
        observation_dim=trained.suite.observation_dim,
        task=task,
        deterministic=deterministic,
        seed=seed,
        device=device_of(trained.actor),
        origin=f"{config.method}, seed {config.seed}, after {steps:,} steps, {trained.origin}",
    )


def export_policy(path: str | Path, out: str | Path, *, checkpoint: str = LAST) -> Path:
    """Exports a policy: to a file that needs nothing of this package, or to a small checkpoint.

    The inputs of the file, which holds the deterministic policy, are
    ``observations [rows, observation]`` float32 and ``tasks [rows]`` int64, the places of the
    tasks; its output is ``actions [rows, action]``. It holds the tasks' names as JSON: TorchScript
    as the extra file ``tasks.json``, ONNX as the metadata property ``tasks``.

    A checkpoint of the policy alone is loaded, evaluated and filmed as that of a run, of which it
    keeps the settings and the protocol; training cannot go on from it.

    Args:
        path: As for :func:`load_policy`.
        out: The file; the ending ``.pt`` makes it TorchScript, ``.onnx`` ONNX. Without an ending,
            the folder of the checkpoint.
        checkpoint: As for :func:`load_policy`.

    Returns:
        The file, or the folder.

    Raises:
        UserError: If there is no agent that can be loaded, the ending is another one, or the folder
            is not empty.
    """
    out = _path(out)
    exporters = {".pt": _export_torchscript, ".onnx": _export_onnx}
    if out.suffix not in {"", *exporters}:
        raise UserError(
            f"{out} has to end in {' or '.join(exporters)}, which names its format, or in nothing, "
            "for a folder"
        )
    trained = load_trained(_path(path), checkpoint=checkpoint)
    if not out.suffix:
        save_policy(trained, out)
        return out
    policy = RowPolicy(trained.actor, len(trained.task_names))
    policy = policy.eval().requires_grad_(False)
    # More than one row, and not as many as tasks: sizes that are equal would be taken for one.
    num_rows = len(trained.task_names) + 2
    observations = torch.zeros(num_rows, trained.suite.observation_dim)
    example = observations, torch.zeros(num_rows, dtype=torch.int64)
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(out) as unfinished, _without_chatter():
        exporters[out.suffix](policy, example, json.dumps(trained.task_names), unfinished)
    return out


def _path(path: str | Path) -> Path:
    checked = convert(Path, str(path), "path")
    assert isinstance(checked, Path)
    return checked


def _export_torchscript(
    policy: RowPolicy, example: tuple[Tensor, Tensor], tasks: str, out: Path
) -> None:
    traced: Any = torch.jit.trace(policy, example)
    torch.jit.save(traced, str(out), _extra_files={"tasks.json": tasks})


def _export_onnx(policy: RowPolicy, example: tuple[Tensor, Tensor], tasks: str, out: Path) -> None:
    if not all(importlib.util.find_spec(name) for name in ("onnx", "onnxscript")):
        raise UserError("ONNX needs onnx and onnxscript; pip install onnx onnxscript")
    rows = torch.export.Dim("rows")
    program = torch.onnx.export(
        policy,
        example,
        dynamo=True,
        verbose=False,
        input_names=["observations", "tasks"],
        output_names=["actions"],
        dynamic_shapes={"observations": {0: rows}, "tasks": {0: rows}},
    )
    assert program is not None
    program.model.metadata_props["tasks"] = tasks
    program.save(str(out))


@contextmanager
def _without_chatter() -> Iterator[None]:
    """Keeps PyTorch's exporters from telling their own history."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
