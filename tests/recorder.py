"""A stand-in for CUDA graphs on machines without CUDA.

It records the operations of a procedure with the tensors that they were given, and replays them on
that same memory; no Python of the procedure runs again. So it fails where a graph would: where a
tensor is replaced instead of written into, where a number lives on the host, where memory moves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map_only

from mtrl_ntk.rl.cuda_graph import Procedure
from tests.device import HostSynchronisationGuard


class Operation(NamedTuple):
    """One operation, with what it read and what it made."""

    func: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    made: list[Tensor | None]
    """Its results; None for those in memory that was there before."""

    def repeat(self) -> None:
        """Runs it again, into the same memory."""
        results = tree_leaves(self.func(*self.args, **self.kwargs))
        for target, result in zip(self.made, results, strict=True):
            if target is not None:
                target.copy_(result)


class Recording(HostSynchronisationGuard):
    """Keeps the operations that it lets through."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations: list[Operation] = []
        self.streams: list[torch.Generator] = []

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: tuple[type, ...],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        """Runs ``func`` and keeps it."""
        # Views, as an operation in place may give a tensor another shape later on.
        given, kept = tree_map_only(Tensor, Tensor.detach, (args, kwargs or {}))
        result = super().__torch_dispatch__(func, types, args, kwargs)
        leaves = tree_leaves((args, kwargs))
        self.streams += [leaf for leaf in leaves if isinstance(leaf, torch.Generator)]
        memory = {_memory(leaf) for leaf in leaves if isinstance(leaf, Tensor)}
        made = [
            leaf.detach() if isinstance(leaf, Tensor) and _memory(leaf) not in memory else None
            for leaf in tree_leaves(result)
        ]
        self.operations.append(Operation(func, given, kept, made))
        return result

    @torch.no_grad()
    def replay(self) -> None:
        """Runs all operations again."""
        for operation in self.operations:
            operation.repeat()


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


class OperationRecorder:
    """Records operations on the CPU.

    Attributes:
        recordings: What was recorded.
    """

    def __init__(self) -> None:
        self.recordings: list[Recording] = []

    def warm_up(self, procedure: Procedure) -> None:
        """Runs the procedure."""
        procedure()

    def record(self, procedure: Procedure, generators: Sequence[torch.Generator]) -> Procedure:
        """Records a procedure.

        It runs meanwhile, which a recording on CUDA does not: the first replay is the recording.
        """
        recording = Recording()
        with recording:
            procedure()
        # The same stream comes as another object each time, but always in one state.
        states = {_state(generator) for generator in generators}
        unknown = [stream for stream in recording.streams if _state(stream) not in states]
        assert not unknown, "an unregistered stream"
        self.recordings.append(recording)
        runs = iter([_nothing])
        return lambda: next(runs, recording.replay)()


def _state(generator: torch.Generator) -> bytes:
    return generator.get_state().numpy().tobytes()


def _nothing() -> None:
    pass
