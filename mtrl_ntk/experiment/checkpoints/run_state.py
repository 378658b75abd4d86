"""Everything that the rest of a run depends on, taken from a run and put into another."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor

from mtrl_ntk.experiment.checkpoints import segments
from mtrl_ntk.experiment.checkpoints.archive import (
    SCORE,
    Archive,
    Found,
    replay_folder,
    segments_of,
)
from mtrl_ntk.experiment.checkpoints.checkpoint import CheckpointError
from mtrl_ntk.experiment.checkpoints.nested_state import merge, split
from mtrl_ntk.experiment.checkpoints.resume import Start
from mtrl_ntk.experiment.devices import stream_seed
from mtrl_ntk.experiment.files.layout import CHECKPOINT
from mtrl_ntk.experiment.logs.run_info import versions
from mtrl_ntk.experiment.types import Counts, Evaluation, EvaluationResult, LogPosition
from mtrl_ntk.rl.replay import MultiTaskReplayBuffer

STATE, MADE_WITH = "state", "made_with"
"""Keys in a checkpoint's metadata."""


class Stateful(Protocol):
    """A part of a run that is saved with it, and goes on from what was saved."""

    def state(self) -> Any:  # noqa: ANN401 - as below
        """What it depends on: nested mappings, numbers, text, arrays, tensors."""

    def restore(self, state: Any, /) -> str | None:  # noqa: ANN401 - what `state` returned
        """Goes on from a :meth:`state`; from an empty one where a checkpoint knows no such part.

        Returns:
            Why it may not go on bit for bit, in words; None if it will.
        """


@dataclass(frozen=True)
class Slot:
    """Makes a :class:`Stateful` of something that has its state elsewhere."""

    state: Callable[[], Any]
    restore: Callable[[Any], str | None]


class Stream:
    """The state of a random stream.

    Args:
        generator: The stream.
        seed: Seed of the run.
        name: Name of the stream.
        step: Vector steps of the run so far.
    """

    def __init__(
        self, generator: torch.Generator, seed: int, name: str, step: Callable[[], int]
    ) -> None:
        self._generator, self._seed, self._name, self._step = generator, seed, name, step

    def state(self) -> Tensor:
        """Where the stream is."""
        return self._generator.get_state()

    def restore(self, state: Tensor) -> None:
        """Goes to a :meth:`state`; another kind of device, with other generators, starts anew."""
        if state.shape == self._generator.get_state().shape:
            self._generator.set_state(state)
        else:
            kind = self._generator.device.type
            stream = f"{self._name} on {kind} from step {self._step()}"
            self._generator.manual_seed(stream_seed(self._seed, stream))


class Snapshot(NamedTuple):
    """A run at one moment, as a checkpoint holds it, but for its transitions."""

    tensors: dict[str, Tensor]
    """The network's."""
    metadata: dict[str, Any]
    """What JSON keeps."""
    training: dict[str, Tensor]
    """Those that only further training needs."""


class Network(Protocol):
    """What is trained: the tensors of which a checkpoint holds apart from all else."""

    def state_dict(self) -> dict[str, Tensor]:
        """Its tensors."""

    def load_state_dict(self, state: dict[str, Tensor], /) -> object:
        """Takes over what :meth:`state_dict` gave."""


A = TypeVar("A", bound=Network)


class RunState(Generic[A]):
    """All that a run goes on from: a network, a replay, and parts with a state of their own.

    Args:
        agent: The agent, or the network alone.
        replay: The transitions, if it learns from any.
        parts: The parts by the names of their states, in the order in which they are restored; of
            them ``counters`` and ``evaluation`` are also read by others.
        about: What checkpoints say of the run besides: tasks, protocol, settings.
        made_with: What may change the last bits of its numbers.
        score: What tells better states from worse, of a state; None where it was not evaluated.
    """

    def __init__(
        self,
        agent: A,
        replay: MultiTaskReplayBuffer | None,
        parts: Mapping[str, Stateful],
        about: Mapping[str, Any],
        made_with: Mapping[str, Any],
        score: Callable[[Mapping[str, Any]], float | None] = lambda _: None,
    ) -> None:
        self.agent, self.replay, self._score = agent, replay, score
        self._parts, self._about, self._made_with = dict(parts), dict(about), dict(made_with)

    def capture(self) -> dict[str, Any]:
        """The state between two steps, or in the middle of one whose results are still to come.

        Tensors and arrays are those of the run, which goes on to change them.
        """
        state = {name: part.state() for name, part in self._parts.items()}
        return state if self.replay is None else state | {"inserted": self.replay.inserted}

    def snapshot(
        self, state: Mapping[str, Any] | None = None, *, finished: bool = False
    ) -> Snapshot:
        """The run as a checkpoint holds it.

        Args:
            state: What :meth:`capture` has returned; by default the present state.
            finished: Whether the run has come to its end.
        """
        training, values = split(self.capture() if state is None else state)
        metadata = {
            **self._about,
            "counters": values["counters"],
            SCORE: self._score(values),
            "finished": finished,
            MADE_WITH: self._made_with,
            STATE: values,
        }
        return Snapshot(self.agent.state_dict(), metadata, training)

    def restore(self, found: Found) -> list[str]:
        """Puts a new run where the run of a checkpoint was.

        Returns:
            Why it may not go on bit for bit as that run would have, in words; nothing if it will.

        Raises:
            CheckpointError: If the checkpoint does not hold the state of such a run.
        """
        checkpoint = found.checkpoint
        with reading(found):
            state = merge(checkpoint.training, checkpoint.metadata[STATE])
            remarks = _differences(checkpoint.metadata[MADE_WITH], self._made_with)
            self.agent.load_state_dict(checkpoint.tensors)
            if self.replay is not None:
                _restore_replay(self.replay, found, state["inserted"])
            for name, part in self._parts.items():
                if remark := part.restore(state.get(name, {})):
                    remarks.append(remark)
        return remarks


def _restore_replay(replay: MultiTaskReplayBuffer, found: Found, inserted: Tensor) -> None:
    parts = segments_of(found.folder, found.checkpoint.metadata)
    segments.load(replay_folder(found.folder), parts, replay)
    begin = parts[0].range[0] if parts else replay.inserted
    if (replay.inserted != inserted.numpy()).any() or (
        begin > replay.inserted - replay.sizes
    ).any():
        raise ValueError("its replay is not whole")


def success(state: Mapping[str, Any]) -> float | None:
    """What tells better states of an agent from worse, if it was evaluated."""
    if state["evaluated_at"] != state["counters"]["vector_steps"]:
        return None
    return EvaluationResult.from_json(state["evaluation"]).score


def circumstances(packages: Sequence[str], device: torch.device) -> dict[str, Any]:
    """What may change the last bits of a run's numbers, the packages that decide among it."""
    return {**versions(packages), "device": device.type, "threads": torch.get_num_threads()}


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    return [
        f"{name} was {before[name]}, is {value}"
        for name, value in now.items()
        if before.get(name, value) != value
    ]


N = TypeVar("N", bound=Counts)
V = TypeVar("V", bound=Evaluation)


def counters_of(found: Found, kind: type[N]) -> N:
    """How far the run of a checkpoint was, in counters of a kind.

    Raises:
        CheckpointError: If the checkpoint does not say.
    """
    with reading(found):
        return kind.from_json(found.checkpoint.metadata["counters"])


def log_position(start: Start | None) -> LogPosition | None:
    """Where the logs that are in the folder are continued; None if there may be none.

    Raises:
        CheckpointError: If the checkpoint does not say.
    """
    if start is None or not start.continues:
        return None
    if start.found is None:
        return LogPosition()
    with reading(start.found):
        return LogPosition.from_json(start.found.checkpoint.metadata[STATE]["log"])


def make_archive(run_dir: Path, keep: int, start: Start | None) -> Archive:
    """Where a run keeps its checkpoints, with what is there already of its replay.

    Raises:
        CheckpointError: If the checkpoint does not say what that is.
    """
    if start is None or start.found is None or not start.continues:
        return Archive(run_dir / CHECKPOINT, keep)
    parts = segments_of(start.found.folder, start.found.checkpoint.metadata)
    return Archive(run_dir / CHECKPOINT, keep, parts)


def evaluation_of(found: Found, kind: type[V]) -> V | None:
    """The last evaluation before a checkpoint, if there was one.

    Raises:
        CheckpointError: If the checkpoint does not say.
    """
    with reading(found):
        saved = found.checkpoint.metadata[STATE]["evaluation"]
        return None if saved is None else kind.from_json(saved)


@contextmanager
def reading(found: Found) -> Iterator[None]:
    """Makes what goes wrong with the content of a checkpoint a line that names the checkpoint."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise CheckpointError(f"{found.folder} is not of such a run: {reason}") from error
