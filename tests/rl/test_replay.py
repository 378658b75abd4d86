"""The replay buffer: what goes in comes out, uniformly, and the oldest leaves first."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from mtrl_ntk.errors import RunFailed, UserError
from mtrl_ntk.rl.replay import MultiTaskReplayBuffer, Staging
from tests.device import TransferCount, forbid_host_synchronisation, forbid_stray_tensors

TASKS, OBSERVATION, ACTION = 3, 4, 2


def make_buffer(capacity: int = 6, device: str = "cpu") -> MultiTaskReplayBuffer:
    """A small buffer."""
    return MultiTaskReplayBuffer(
        TASKS,
        capacity,
        OBSERVATION,
        ACTION,
        device=torch.device(device),
        generator=torch.Generator().manual_seed(0),
    )


def transitions(number: int, copies: int = 1) -> dict[str, Any]:
    """Transitions that all carry the same number: task, copy and ``number`` are legible in them."""
    task, copy = np.meshgrid(np.arange(TASKS), np.arange(copies), indexing="ij")
    code = (100 * task + 10 * copy + number).astype(np.float32)
    return {
        "observations": np.repeat(code[..., None], OBSERVATION, axis=2),
        "actions": np.repeat(code[..., None] / 1000, ACTION, axis=2),
        "rewards": -code,
        "next_observations": np.repeat(code[..., None] + 0.5, OBSERVATION, axis=2),
        "terminated": np.full((TASKS, copies), number % 2 == 1),
    }


def contents(buffer: MultiTaskReplayBuffer) -> list[set[int]]:
    """The codes that each task's samples carry."""
    codes = -buffer.sample(400).rewards
    return [set(row.int().tolist()) for row in codes]


def test_transitions_come_back_whole_and_by_task() -> None:
    buffer = make_buffer()
    for number in range(4):
        buffer.add(**transitions(number))
    batch = buffer.sample(50)
    code = -batch.rewards
    assert batch.rewards.shape == batch.terminated.shape == (TASKS, 50)
    assert torch.equal(code // 100, torch.arange(TASKS)[:, None].expand(TASKS, 50).float())
    assert torch.equal(batch.observations, code[..., None].expand(-1, -1, OBSERVATION))
    assert torch.equal(batch.next_observations, batch.observations + 0.5)
    assert torch.equal(batch.actions, (code / 1000)[..., None].expand(-1, -1, ACTION))
    assert torch.equal(batch.terminated, code % 2)


def test_the_oldest_transitions_make_room() -> None:
    buffer = make_buffer(capacity=6)
    for number in range(5):
        buffer.add(**transitions(number, copies=2))
    assert buffer.sizes.tolist() == [6, 6, 6]
    kept = {10 * copy + number for copy in range(2) for number in (2, 3, 4)}
    assert contents(buffer) == [{100 * task + code for code in kept} for task in range(TASKS)]


def test_invalid_transitions_are_left_out() -> None:
    buffer = make_buffer()
    valid = np.array([[True, False], [True, True], [False, False]])
    buffer.add(**transitions(1, copies=2), valid=valid)
    buffer.add(**transitions(2, copies=2), valid=~valid)
    assert buffer.sizes.tolist() == [2, 2, 2]
    assert contents(buffer) == [{1, 12}, {101, 111}, {202, 212}]


def test_samples_are_uniform() -> None:
    buffer = make_buffer(capacity=8)
    for number in range(5):
        buffer.add(**transitions(number))
    codes = (-buffer.sample(20_000).rewards[1] - 100).long()
    shares = torch.bincount(codes, minlength=5) / 20_000
    assert shares.shape == (5,)
    assert (shares - 0.2).abs().max() < 0.015


class ManyRows:
    """Takes note of the rows that are asked for, of more than there is memory for."""

    def __init__(self, width: int) -> None:
        self.asked, self.device, self._width = torch.zeros(0), torch.device("cpu"), width

    def index_select(self, _: int, indices: torch.Tensor) -> torch.Tensor:
        self.asked = indices
        return torch.zeros(len(indices), self._width)


def test_every_row_of_a_large_ring_can_be_drawn() -> None:
    buffer = make_buffer()
    buffer.add(**transitions(0))
    rows = ManyRows(buffer.row_width)
    buffer._rows = rows  # type: ignore[assignment]
    size = 3 * 2**24 + 1
    buffer._sizes.fill_(size)
    buffer.sample(4_000)
    last_bits = rows.asked.view(TASKS, -1)[0].remainder(4)
    assert (torch.bincount(last_bits, minlength=4) / 4_000 - 0.25).abs().max() < 0.03


def test_drawing_from_a_ring_without_a_transition_says_which() -> None:
    buffer = make_buffer()
    with pytest.raises(RunFailed, match="nothing to learn from yet: no transition of task 0, 1"):
        buffer.sample(4)
    given = transitions(0)
    valid = np.ones(given["rewards"].shape, np.bool_)
    valid[1:] = False
    buffer.add(**given, valid=valid)
    with pytest.raises(RunFailed, match="no transition of task 1"):
        buffer.sample(4)


def test_tasks_are_sampled_independently() -> None:
    buffer = make_buffer()
    for number in range(6):
        buffer.add(**transitions(number))
    codes = -buffer.sample(100).rewards % 100
    assert not torch.equal(codes[0], codes[1])


def test_the_last_transition_is_never_overrun() -> None:
    buffer = make_buffer(capacity=6)
    for number in range(3):
        buffer.add(**transitions(number))
    highest = torch.nextafter(torch.ones((), dtype=torch.float64), torch.tensor(0.0))
    draw = torch.rand
    torch.rand = lambda *shape, **_: torch.full(shape, highest.item(), dtype=torch.float64)
    try:
        assert set((-buffer.sample(4).rewards[0]).tolist()) == {2.0}
    finally:
        torch.rand = draw


def test_same_seed_same_batches() -> None:
    first, second = make_buffer(), make_buffer()
    for buffer in (first, second):
        for number in range(4):
            buffer.add(**transitions(number))
    assert all(map(torch.equal, first.sample(10), second.sample(10)))


def test_sampling_never_waits_for_the_device() -> None:
    buffer = make_buffer()
    buffer.add(**transitions(0))
    with forbid_host_synchronisation():
        buffer.sample(4)


def test_new_transitions_go_to_the_device_in_one_copy() -> None:
    buffer = make_buffer(device="meta")
    for number in range(3):
        with TransferCount() as log:
            buffer.add(**transitions(number, copies=2))
        assert log.count == 1
    with forbid_stray_tensors():
        batch = buffer.gather(torch.empty(TASKS, 4, device="meta"))
    assert {values.device.type for values in batch} == {"meta"}


def test_memory_is_as_documented() -> None:
    assert make_buffer(capacity=6).nbytes == 4 * TASKS * 6 * (2 * OBSERVATION + ACTION + 2)


def test_a_buffer_that_does_not_fit_is_refused_in_one_line() -> None:
    with pytest.raises(UserError, match=r"needs .* GB on cpu, .*--replay-capacity below \d+$"):
        make_buffer(capacity=10**14)


def filled(capacity: int, count: int) -> MultiTaskReplayBuffer:
    """A buffer that was given so many transitions, some tasks one or two fewer."""
    buffer = make_buffer(capacity)
    for number in range(count):
        valid = np.array([[True], [number != 2], [number not in (1, 3)]])
        buffer.add(**transitions(number), valid=valid)
    return buffer


@pytest.mark.parametrize("count", [4, 6, 8, 15])
def test_transitions_can_be_taken_out_and_put_back_in_parts(count: int) -> None:
    buffer, other = filled(6, count), make_buffer(capacity=6)
    last = buffer.inserted
    first = last - buffer.sizes
    middle = (first + last) // 2
    for begin, end in ((first, middle), (middle, last)):
        rows = buffer.numbered(begin, end)
        assert rows.shape == ((end - begin).sum(), buffer.row_width)
        other.put(begin, end, rows)
    assert other.inserted.tolist() == buffer.inserted.tolist()
    assert torch.equal(other._rows, buffer._rows)
    for each in (buffer, other):
        each.add(**transitions(20))
    assert all(map(torch.equal, other.sample(50), buffer.sample(50)))


def test_transitions_are_numbered_as_they_came() -> None:
    buffer = filled(6, 9)
    rows = buffer.numbered(buffer.inserted - np.array([2, 1, 0]), buffer.inserted)
    rewards = -rows[:, OBSERVATION + ACTION]
    assert rewards.tolist() == [7, 8, 108]


@pytest.mark.parametrize(
    ("first", "last", "rows", "message"),
    [
        ([4, 4, 4], [5, 5, 5], 3, "are missing"),
        ([3, 3, 3], [12, 12, 12], 27, "do not fit 6 places"),
        ([3, 3, 3], [2, 4, 4], 1, "do not fit 6 places"),
        ([3, 3, 3], [4, 4, 4], 2, "rows are float32"),
    ],
)
def test_transitions_that_do_not_fit_are_refused(
    first: list[int], last: list[int], rows: int, message: str
) -> None:
    buffer = make_buffer()
    for number in range(3):
        buffer.add(**transitions(number))
    with pytest.raises(ValueError, match=message):
        buffer.put(np.array(first), np.array(last), np.zeros((rows, 12), np.float32))
    assert buffer.inserted.tolist() == [3, 3, 3]


ARRAYS: list[npt.NDArray[Any]] = [
    np.arange(5, dtype=np.int64),
    np.array([True, False, True]),
    np.linspace(0, 1, 6, dtype=np.float32).reshape(2, 3),
    np.zeros((0, 4), np.float32),
    np.arange(6.0).reshape(2, 3).T,
]


def assert_arrived(sent: list[npt.NDArray[Any]], got: list[Tensor]) -> None:
    for array, tensor in zip(sent, got, strict=True):
        assert tensor.numpy().dtype == array.dtype
        np.testing.assert_array_equal(tensor.numpy(), array)


def test_arrays_of_any_type_and_shape_arrive() -> None:
    staging = Staging(torch.device("cpu"))
    for arrays in (ARRAYS[:2], ARRAYS, ARRAYS[::-1], ARRAYS[2:]):
        assert_arrived(arrays, staging.send(*arrays))


def test_what_was_sent_is_the_callers_own() -> None:
    array = np.zeros(3)
    (arrived,) = Staging(torch.device("cpu")).send(array)
    arrived.fill_(1.0)
    assert array.tolist() == [0.0] * 3


def test_there_is_one_copy_to_another_device() -> None:
    staging = Staging(torch.device("meta"))
    with TransferCount() as log:
        arrived = staging.send(*ARRAYS)
    assert log.count == 1
    assert [tensor.shape for tensor in arrived] == [array.shape for array in ARRAYS]
    assert {tensor.device.type for tensor in arrived} == {"meta"}
