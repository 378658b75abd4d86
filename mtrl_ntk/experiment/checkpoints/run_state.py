"""Everything that the rest of a run depends on, taken from a run and put into another."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from mtrl_ntk.experiment.checkpoints import segments
from mtrl_ntk.experiment.checkpoints.archive import (
    SCORE,
    Archive,
    Found,
    replay_folder,
    segments_of,
)
from mtrl_ntk.experiment.checkpoints.checkpoint import CheckpointError
from mtrl_ntk.experiment.checkpoints.nested_state import merge
from mtrl_ntk.experiment.checkpoints.resume import Start
from mtrl_ntk.experiment.config import to_dict
from mtrl_ntk.experiment.devices import stream_seed
from mtrl_ntk.experiment.files.layout import CHECKPOINT
from mtrl_ntk.experiment.logs.run_info import versions
from mtrl_ntk.experiment.types import Counters, EvaluationResult, LogPosition
from mtrl_ntk.rl.suites.suite import Suite

if TYPE_CHECKING:
    from mtrl_ntk.experiment.training.loop import Run

STATE, MADE_WITH = "state", "made_with"
"""Keys in a checkpoint's metadata."""


def capture(run: Run) -> dict[str, Any]:
    """The state of a run, but for its agent's tensors and its transitions.

    It is that between two steps, or in the middle of one whose results are still to come. Tensors
    and arrays are those of the run, which goes on to change them.
    """
    return {
        "counters": asdict(run.counters),
        "observations": run.observations,
        "envs": run.envs.state(),
        "optimizers": run.agent.optimizer_state(),
        "agent_stream": run.agent.generator.get_state(),
        "replay_stream": run.replay.generator.get_state(),
        "inserted": run.replay.inserted,
        "metrics": run.metrics.state(),
        "episodes": run.episodes.state(),
        "rates": run.rates.state(),
        "worker_restarts": run.restarts.count,
        "health": run.health.state(),
        "warmed_up": asdict(run.estimate.warmed_up),
        "log": asdict(run.logger.position(run.step)),
        "evaluation": run.evaluations.last and _evaluation_as_json(run.evaluations.last),
        "evaluated_at": run.evaluations.at,
    }


def describe(run: Run, state: Mapping[str, Any], *, finished: bool) -> dict[str, Any]:
    """The metadata of a checkpoint.

    Args:
        run: The run.
        state: What JSON keeps of its state.
        finished: Whether it has come to its end.
    """
    evaluation = run.evaluations.last if run.evaluations.at == run.step else None
    return {
        "task_names": list(run.envs.task_names),
        "protocol": run.protocol,
        "counters": state["counters"],
        SCORE: evaluation.mean_success_rate if evaluation else None,
        "finished": finished,
        "config": to_dict(replace(run.config, run_dir=None, resume=None)),
        MADE_WITH: _made_with(run.config.env.suite, run.agent.device),
        STATE: state,
    }


def _made_with(suite: Suite, device: torch.device) -> dict[str, Any]:
    """What may change the last bits of a run's numbers."""
    return {**versions(suite), "device": device.type, "threads": torch.get_num_threads()}


def counters_of(found: Found) -> Counters:
    """How far the run of a checkpoint was.

    Raises:
        CheckpointError: If the checkpoint does not say.
    """
    with _reading(found):
        return _counters(found.checkpoint.metadata["counters"])


def log_position(start: Start | None) -> LogPosition | None:
    """Where the logs that are in the folder are continued; None if there may be none.

    Raises:
        CheckpointError: If the checkpoint does not say.
    """
    if start is None or not start.continues:
        return None
    if start.found is None:
        return LogPosition()
    with _reading(start.found):
        position = LogPosition(**start.found.checkpoint.metadata[STATE]["log"])
        sizes = (position.vector_steps, position.training, position.evaluation)
        if not all(map(_is_count, (*sizes, *position.events.values()))):
            raise ValueError(f"logs end at {position}")
        return position


def make_archive(run_dir: Path, keep: int, start: Start | None) -> Archive:
    """Where a run keeps its checkpoints, with what is there already of its replay.

    Raises:
        CheckpointError: If the checkpoint does not say what that is.
    """
    if start is None or start.found is None or not start.continues:
        return Archive(run_dir / CHECKPOINT, keep)
    parts = segments_of(start.found.folder, start.found.checkpoint.metadata)
    return Archive(run_dir / CHECKPOINT, keep, parts)


def evaluation_of(found: Found) -> EvaluationResult | None:
    """The last evaluation before a checkpoint, if there was one.

    Raises:
        CheckpointError: If the checkpoint does not say.
    """
    with _reading(found):
        return _evaluation_from_json(found.checkpoint.metadata[STATE]["evaluation"])


def restore(run: Run, found: Found) -> list[str]:
    """Puts a new run where the run of a checkpoint was.

    Returns:
        Why it may not go on bit for bit as that run would have, in words; nothing if it will.

    Raises:
        CheckpointError: If the checkpoint does not hold the state of such a run.
    """
    checkpoint = found.checkpoint
    with _reading(found):
        state = merge(checkpoint.training, checkpoint.metadata[STATE])
        made_with = _made_with(run.config.env.suite, run.agent.device)
        remarks = _differences(checkpoint.metadata[MADE_WITH], made_with)
        run.agent.load_state_dict(checkpoint.tensors)
        run.agent.load_optimizer_state(state["optimizers"])
        _restore_replay(run, found, state)
        _restore_progress(run, state)
        observations = state["observations"].numpy()
        run.observations = run.envs.restore(state["envs"])
        if not np.array_equal(run.observations, observations):
            remarks.append("the simulation does not repeat itself here to the last bit")
        _restore_streams(run, state)
    return remarks


def _restore_replay(run: Run, found: Found, state: Mapping[str, Any]) -> None:
    parts = segments_of(found.folder, found.checkpoint.metadata)
    segments.load(replay_folder(found.folder), parts, run.replay)
    begin = parts[0].range[0] if parts else run.replay.inserted
    if (run.replay.inserted != state["inserted"].numpy()).any() or (
        begin > run.replay.inserted - run.replay.sizes
    ).any():
        raise ValueError("its replay is not whole")


def _restore_progress(run: Run, state: Mapping[str, Any]) -> None:
    run.go_on_from(_counters(state["counters"]))
    run.estimate.warmed_up = _counters(state["warmed_up"])
    run.metrics.restore(state["metrics"], run.agent.device)
    run.episodes.restore(state["episodes"])
    run.rates.restore(state["rates"])
    run.restarts.count = int(state.get("worker_restarts", 0))
    run.health.restore(state.get("health", {}))
    run.evaluations.last = _evaluation_from_json(state["evaluation"])
    run.evaluations.at = int(state["evaluated_at"])


def _restore_streams(run: Run, state: Mapping[str, Any]) -> None:
    for name, generator in (("agent", run.agent.generator), ("replay", run.replay.generator)):
        saved = state[f"{name}_stream"]
        if saved.shape == generator.get_state().shape:
            generator.set_state(saved)
        else:
            # Another kind of device has another kind of generator.
            stream = f"{name} on {generator.device.type} from step {run.step}"
            generator.manual_seed(stream_seed(run.config.seed, stream))


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    return [
        f"{name} was {before.get(name)}, is {value}"
        for name, value in now.items()
        if before.get(name) != value
    ]


def _counters(values: Mapping[str, Any]) -> Counters:
    counters = Counters(**values)
    counts = (counters.vector_steps, counters.env_steps, counters.updates)
    if not all(map(_is_count, counts)) or not 0 <= counters.seconds < math.inf:
        raise ValueError(f"it was at {counters}")
    return counters


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 1 << 62


def _evaluation_as_json(result: EvaluationResult) -> dict[str, Any]:
    return {
        "task_names": list(result.task_names),
        "success_rates": result.success_rates.tolist(),
        "mean_returns": result.mean_returns.tolist(),
        "episodes": result.episodes,
    }


def _evaluation_from_json(values: Mapping[str, Any] | None) -> EvaluationResult | None:
    if values is None:
        return None
    return EvaluationResult(
        task_names=tuple(values["task_names"]),
        success_rates=np.array(values["success_rates"], dtype=np.float64),
        mean_returns=np.array(values["mean_returns"], dtype=np.float64),
        episodes=int(values["episodes"]),
    )


@contextmanager
def _reading(found: Found) -> Iterator[None]:
    """Makes what goes wrong with the content of a checkpoint a line that names the checkpoint."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise CheckpointError(f"{found.folder} is not of such a run: {reason}") from error
