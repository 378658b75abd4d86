"""A recorded procedure does what it did, on the same memory."""

from __future__ import annotations

import pytest
import torch

from mtrl_ntk.errors import UserError
from mtrl_ntk.rl.cuda_graph import CudaRecorder, Graphed
from tests.device import HostSynchronisationError
from tests.recorder import OperationRecorder


class Counting:
    """Adds random numbers up, and counts how often its Python ran."""

    def __init__(self) -> None:
        self.generator = torch.Generator().manual_seed(0)
        self.total = torch.zeros(3)
        self.calls = 0

    def __call__(self) -> None:
        self.calls += 1
        drawn = torch.rand(3, generator=self.generator)
        self.total.add_(drawn * 2)


def test_a_replay_is_a_call_without_the_python_of_it() -> None:
    plain, procedure = Counting(), Counting()
    graphed = Graphed(procedure, [procedure.generator], OperationRecorder())
    for _ in range(10):
        plain()
        graphed()
        assert torch.equal(plain.total, procedure.total)
        assert torch.equal(plain.generator.get_state(), procedure.generator.get_state())
    assert (plain.calls, procedure.calls) == (10, 4)


def test_what_others_write_in_place_is_seen() -> None:
    procedure = Counting()
    graphed = Graphed(procedure, [procedure.generator], OperationRecorder())
    for _ in range(5):
        graphed()
    procedure.total.zero_()
    procedure.generator.manual_seed(1)
    graphed()
    expected = 2 * torch.rand(3, generator=torch.Generator().manual_seed(1))
    assert torch.equal(procedure.total, expected)


def test_the_stand_in_notices_what_a_graph_cannot_do() -> None:
    procedure = Counting()
    with pytest.raises(AssertionError, match="unregistered"):
        OperationRecorder().record(procedure, [])
    with pytest.raises(HostSynchronisationError):
        OperationRecorder().record(lambda: print(procedure.total.sum().item()), [])


class FakeGraph:
    """What is asked of a CUDA graph."""

    def __init__(self) -> None:
        self.generators: list[torch.Generator] = []
        self.replays = 0

    def register_generator_state(self, generator: torch.Generator) -> None:
        self.generators.append(generator)

    def replay(self) -> None:
        self.replays += 1


class Capture:
    """``torch.cuda.graph`` without CUDA."""

    def __init__(self, graph: FakeGraph) -> None:
        self.graph = graph

    def __enter__(self) -> None:
        assert self.graph.generators

    def __exit__(self, *_: object) -> None:
        pass


def test_streams_are_registered_before_a_capture(monkeypatch: pytest.MonkeyPatch) -> None:
    graphs: list[FakeGraph] = []

    def make() -> FakeGraph:
        graphs.append(FakeGraph())
        return graphs[-1]

    monkeypatch.setattr(torch.cuda, "CUDAGraph", make)
    monkeypatch.setattr(torch.cuda, "graph", Capture)
    procedure = Counting()
    replay = CudaRecorder().record(procedure, [procedure.generator])
    replay()
    assert graphs[0].generators == [procedure.generator]
    assert graphs[0].replays == 1

    def fail() -> None:
        raise RuntimeError("operation not permitted when stream is capturing")

    with pytest.raises(UserError, match=r"--no-cuda-graph .*not permitted"):
        CudaRecorder().record(fail, [procedure.generator])


def test_a_replay_keeps_to_the_memory_of_its_recording() -> None:
    class Replacing(Counting):
        def __call__(self) -> None:
            self.total = self.total + 1

    procedure = Replacing()
    graphed = Graphed(procedure, [], OperationRecorder())
    for _ in range(10):
        graphed()
    # As with a graph of CUDA: the recording reads what was there then, each time anew.
    assert procedure.total.tolist() == [4.0] * 3
