"""What is repeated on the CPU is what the procedure does, or the procedure itself."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mtrl_ntk.rl.cuda_graph import Graphed
from mtrl_ntk.rl.host_graph import HostRecorder

ROWS = 64


class Learning:
    """A procedure that draws, learns and counts how often its Python ran."""

    def __init__(self, change: Callable[[Learning, Tensor], Tensor] = lambda _, x: x) -> None:
        self.generator = torch.Generator().manual_seed(0)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.network = nn.Sequential(nn.Linear(3, 8), nn.LayerNorm(8), nn.ReLU())
        self.total = torch.zeros(8)
        self.last = torch.zeros(8)
        self.calls = 0
        self._change = change

    def __call__(self) -> None:
        self.calls += 1
        inputs = torch.randn(ROWS, 3, generator=self.generator)
        losses = self.network(inputs).square().mean(0)
        parameters = list(self.network.parameters())
        gradients = torch.autograd.grad(losses.sum(), parameters)
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.sub_(0.1 * gradient)
            self.total.add_(self._change(self, losses))

    @property
    def numbers(self) -> list[Tensor]:
        """All that it has written."""
        written = [*self.network.parameters(), self.total]
        return [*(tensor.detach().clone() for tensor in written), self.generator.get_state()]


def check(change: Callable[[Learning, Tensor], Tensor], calls: int = 10) -> tuple[int, bool]:
    """A graph does what calls do; tells how often Python ran, and whether it was repeated."""
    plain, procedure, recorder = Learning(change), Learning(change), HostRecorder()
    graphed = Graphed(procedure, [procedure.generator], recorder)
    for _ in range(calls):
        plain()
        graphed()
        assert all(map(torch.equal, plain.numbers, procedure.numbers))
    (replay,) = recorder.replays
    return procedure.calls, replay.repeats


def in_place(_: Learning, losses: Tensor) -> Tensor:
    views = losses.clone()[None].squeeze_(0)
    views[2:4] = 7
    return torch.cat([views[:4], torch.stack(list(views[4:].unbind())).mul_(2)])


def other_types(_: Learning, losses: Tensor) -> Tensor:
    return losses.double().sqrt().float() + losses.argsort() + (losses > 0.1).to(torch.float32)


@pytest.mark.parametrize("change", [lambda _, losses: losses, in_place, other_types])
def test_what_computes_is_repeated_without_python(
    change: Callable[[Learning, Tensor], Tensor],
) -> None:
    # Three to warm up, one recorded, one compared with.
    assert check(change) == (5, True)


def looks(_: Learning, losses: Tensor) -> Tensor:
    return losses if losses.sum().item() > 1 else -losses


def leaves_torch(_: Learning, losses: Tensor) -> Tensor:
    return torch.from_numpy(np.sort(losses.detach().numpy()))


def keeps_tensors(learning: Learning, losses: Tensor) -> Tensor:
    last, learning.last = learning.last, losses
    return last


def keeps_numbers(learning: Learning, losses: Tensor) -> Tensor:
    return losses * learning.calls


@pytest.mark.parametrize("change", [looks, leaves_torch, keeps_tensors, keeps_numbers])
def test_what_a_recording_cannot_hold_runs_as_it_is(
    change: Callable[[Learning, Tensor], Tensor],
) -> None:
    assert check(change) == (10, False)


def test_a_stream_that_nobody_named_is_not_drawn_from_twice() -> None:
    torch.manual_seed(3)
    expected = [torch.rand(2) for _ in range(8)]
    torch.manual_seed(3)
    drawn = torch.zeros(2)

    def draw() -> None:
        drawn.copy_(torch.rand(2))

    graphed = Graphed(draw, [], HostRecorder())
    for numbers in expected:
        graphed()
        assert torch.equal(drawn, numbers)


def test_memory_that_somebody_keeps_is_not_given_away() -> None:
    kept: list[Tensor] = []
    total = torch.zeros(100)

    def procedure() -> None:
        kept[:] = [total + 1]
        others = [total * factor for factor in range(5)]
        total.add_(sum(others)).add_(kept[0])

    graphed = Graphed(procedure, [], HostRecorder())
    for _ in range(4):
        graphed()
    seen = kept[0]
    before = total.clone()
    for _ in range(2):  # compared, and repeated
        before = total.clone()
        graphed()
    assert torch.equal(seen, before + 1)


def test_memory_is_used_again() -> None:
    total = torch.zeros(1000)

    def procedure() -> None:
        numbers = total
        for _ in range(50):
            numbers = (numbers + 1).sin()
        total.copy_(numbers)

    recorder = HostRecorder()
    recorder.record(procedure, [])
    steps = recorder.replays[0].steps
    storages = {
        leaf.untyped_storage().data_ptr()
        for step in steps
        for leaf in [*step.args, *step.kwargs.values()]
        if isinstance(leaf, Tensor)
    }
    assert len(steps) == 101
    assert len(storages) == 2
