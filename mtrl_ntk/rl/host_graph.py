"""Records a procedure's operations on the CPU and repeats them, without Python around them.

Operations of a small network are short, and what PyTorch does before each of them takes as long:
modules, views, autograd's notes for a backward pass that is already known. A recording has the
operations that compute something, in their order and on fixed memory, the backward pass included.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mtrl_ntk.rl.cuda_graph import Procedure
from mtrl_ntk.rl.host_function import as_function
from mtrl_ntk.rl.host_log import Log
from mtrl_ntk.rl.host_program import program


class Replay:
    """What repeats a procedure from a recording of it.

    The first call does nothing, as the procedure ran while it was recorded. The second runs it
    again, and repeats it from the recording as well: if that does not write the same bits, it is
    the procedure that runs from then on. So whatever a recording cannot hold, such as a method that
    keeps numbers in Python, costs time but changes nothing.

    Args:
        log: The recording.
        procedure: What was recorded.
        generators: The random streams it draws from.

    Attributes:
        repeats: Whether it is repeated from the recording.
        steps: What is done for that.
    """

    def __init__(
        self, log: Log, procedure: Procedure, generators: Sequence[torch.Generator]
    ) -> None:
        self._procedure, self._generators = procedure, [*generators, torch.default_generator]
        self.repeats = not log.decides
        self.steps = program(log) if self.repeats else []
        self._repeat = as_function(self.steps)
        self._written = log.written
        self._calls = 0

    def __call__(self) -> None:
        """Takes one run."""
        self._calls += 1
        if self._calls == 2 and self.repeats:
            self._compare()
        elif self._calls > 1 and self.repeats:
            self._repeat()
        elif self._calls > 1:
            self._procedure()

    def _compare(self) -> None:
        before = self._state()
        self._procedure()
        expected = self._state()
        self._restore(before)
        self._repeat()
        self.repeats = all(map(torch.equal, self._state(), expected))
        self._restore(expected)
        # Of no more use.
        self._written = []

    def _state(self) -> list[Tensor]:
        streams = [generator.get_state() for generator in self._generators]
        return [*(tensor.clone() for tensor in self._written), *streams]

    def _restore(self, state: list[Tensor]) -> None:
        for tensor, numbers in zip(self._written, state, strict=False):
            tensor.copy_(numbers)
        for generator, numbers in zip(self._generators, state[len(self._written) :], strict=True):
            generator.set_state(numbers)


class HostRecorder:
    """Records procedures on the CPU.

    Attributes:
        replays: What was recorded.
    """

    def __init__(self) -> None:
        self.replays: list[Replay] = []

    def warm_up(self, procedure: Procedure) -> None:
        """See :meth:`~mtrl_ntk.rl.cuda_graph.Recorder.warm_up`."""
        procedure()

    def record(self, procedure: Procedure, generators: Sequence[torch.Generator]) -> Procedure:
        """See :meth:`~mtrl_ntk.rl.cuda_graph.Recorder.record`; the first replay is this run."""
        log = Log()
        with log:
            procedure()
        self.replays.append(Replay(log, procedure, generators))
        return self.replays[-1]
