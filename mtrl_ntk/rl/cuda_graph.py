"""Records a procedure once and replays it, as one CUDA graph in place of hundreds of launches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch

from mtrl_ntk.errors import UserError

Procedure = Callable[[], None]
"""Something that reads and writes tensors which stay where they are, and returns nothing."""

_WARM_UPS = 3


class Recorder(Protocol):
    """How a procedure is recorded: on CUDA by :class:`CudaRecorder`; tests bring their own."""

    def warm_up(self, procedure: Procedure) -> None:
        """Runs a procedure as before a recording, so that libraries and memory are set up."""

    def record(self, procedure: Procedure, generators: Sequence[torch.Generator]) -> Procedure:
        """Records a procedure without running it.

        Args:
            procedure: What to record.
            generators: The random streams it draws from, which every replay moves on.

        Returns:
            What runs it.
        """


class CudaRecorder:
    """Records CUDA graphs."""

    def warm_up(self, procedure: Procedure) -> None:
        """See :meth:`Recorder.warm_up`; on a stream of its own, as CUDA asks for."""
        stream, current = torch.cuda.Stream(), torch.cuda.current_stream()
        stream.wait_stream(current)
        with torch.cuda.stream(stream):
            procedure()
        current.wait_stream(stream)

    def record(self, procedure: Procedure, generators: Sequence[torch.Generator]) -> Procedure:
        """See :meth:`Recorder.record`.

        Raises:
            UserError: If the procedure does what no graph can hold.
        """
        graph = torch.cuda.CUDAGraph()
        for generator in generators:
            # Else every replay would draw the same numbers again.
            graph.register_generator_state(generator)
        try:
            with torch.cuda.graph(graph):
                procedure()
        except RuntimeError as error:
            raise UserError(
                f"the update cannot be recorded as a CUDA graph; use --no-cuda-graph ({error})"
            ) from error
        replay: Procedure = graph.replay
        return replay


class Graphed:
    """A procedure that is recorded once it has run a few times, and replayed from then on.

    Each call is one run of the procedure, whether it is a warm-up or a replay. A replay reads and
    writes the memory of the recording: whatever the procedure uses must be written in place, by
    others as well, and nothing that it decides in Python can change any more.

    Args:
        procedure: What to run.
        generators: The random streams it draws from.
        recorder: How it is recorded.
    """

    def __init__(
        self, procedure: Procedure, generators: Sequence[torch.Generator], recorder: Recorder
    ) -> None:
        self._procedure = procedure
        self._generators = tuple(generators)
        self._recorder = recorder
        self._warm_ups = 0
        self._replay: Procedure | None = None

    def __call__(self) -> None:
        """Runs the procedure once."""
        if self._warm_ups < _WARM_UPS:
            self._warm_ups += 1
            self._recorder.warm_up(self._procedure)
            return
        if self._replay is None:
            self._replay = self._recorder.record(self._procedure, self._generators)
        self._replay()
