"""A stand-in for CUDA graphs on machines without CUDA."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, repeat

import torch
from torch.utils._pytree import tree_leaves

from mtrl_ntk.rl.cuda_graph import Procedure
from mtrl_ntk.rl.host_graph import HostRecorder
from tests.device import forbid_host_synchronisation


class OperationRecorder(HostRecorder):
    """Records operations as on the CPU, and repeats them whatever comes of it.

    So it fails where a graph would: where a tensor is replaced instead of written into, where a
    number lives on the host, where a random stream is not registered.
    """

    def record(self, procedure: Procedure, generators: Sequence[torch.Generator]) -> Procedure:
        """Records a procedure.

        It runs meanwhile, which a recording on CUDA does not: the first replay is the recording.
        """
        with forbid_host_synchronisation():
            super().record(procedure, generators)
        replay = self.replays[-1]
        leaves = tree_leaves([tuple(step) for step in replay.steps])
        streams = {_state(leaf) for leaf in leaves if isinstance(leaf, torch.Generator)}
        # The same stream comes as another object each time, but always in one state.
        assert streams <= {_state(stream) for stream in generators}, "an unregistered stream"
        runs = chain([_nothing], repeat(replay._repeat))
        return lambda: next(runs)()


def _state(generator: torch.Generator) -> bytes:
    return generator.get_state().numpy().tobytes()


def _nothing() -> None:
    pass
