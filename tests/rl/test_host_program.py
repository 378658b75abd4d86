"""Only what is needed is repeated, and it comes to the same."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from mtrl_ntk.rl.host_log import Log
from mtrl_ntk.rl.host_program import Step, program

SIZE = 100


def names(steps: list[Step]) -> list[str]:
    """Names of the operations, without what says where their results go."""
    return [str(step.func).split(".")[1].rstrip("_") for step in steps]


def recorded(compute: Callable[[Tensor], Tensor]) -> tuple[list[Step], Tensor, Tensor]:
    """The steps that repeat a computation, its numbers, and where its result goes."""
    numbers, result = torch.linspace(-1, 1, SIZE), torch.zeros(SIZE)
    with Log() as log:
        result.copy_(compute(numbers))
    return program(log), numbers, result


def twice(numbers: Tensor) -> Tensor:
    return (numbers + 1).exp() * (numbers + 1).exp().sin()


def changed_between(numbers: Tensor) -> Tensor:
    first = numbers + 1
    numbers.mul_(2)
    return first * (numbers + 1)


def changed_afterwards(numbers: Tensor) -> Tensor:
    first, second = numbers + 1, numbers + 1
    first.mul_(3)
    return first * second


def with_constants(numbers: Tensor) -> Tensor:
    return torch.ones_like(numbers).div(4) * numbers + torch.full((SIZE,), 2.0).exp()


def never_read(numbers: Tensor) -> Tensor:
    (numbers * 3).exp()
    return numbers + 1


def two_views(numbers: Tensor) -> Tensor:
    sums = numbers + 1
    return torch.cat([sums[: SIZE // 2] * sums[SIZE // 2 :]] * 2)


def a_list_of_results(numbers: Tensor) -> Tensor:
    first, second = torch._foreach_norm([numbers + 1, numbers.exp()])
    return numbers * first - second


def read_once_more(numbers: Tensor) -> Tensor:
    sums = numbers + 1
    return sums.relu() - sums


@pytest.mark.parametrize(
    ("compute", "expected"),
    [
        (twice, ["add", "exp", "sin", "mul", "copy"]),
        (changed_between, ["add", "mul", "add", "mul", "copy"]),
        (changed_afterwards, ["add", "add", "mul", "mul", "copy"]),
        (with_constants, ["mul", "add", "copy"]),
        (never_read, ["add", "copy"]),
        (two_views, ["add", "mul", "cat", "copy"]),
        (read_once_more, ["add", "relu", "sub", "copy"]),
    ],
)
def test_nothing_is_computed_twice_nor_what_is_known(
    compute: Callable[[Tensor], Tensor], expected: list[str]
) -> None:
    steps, numbers, result = recorded(compute)
    assert names(steps) == expected
    assert_repeats(compute, steps, numbers, result)


def test_lists_of_results_are_repeated() -> None:
    assert_repeats(a_list_of_results, *recorded(a_list_of_results))


def assert_repeats(
    compute: Callable[[Tensor], Tensor], steps: list[Step], numbers: Tensor, result: Tensor
) -> None:
    for shift in (0.3, -0.7):
        numbers.copy_(torch.linspace(-1, 1, SIZE) + shift)
        other = compute(numbers.clone())
        for step in steps:
            step.run()
        assert torch.equal(result, other)


def test_noise_is_new_each_time() -> None:
    generator = torch.Generator().manual_seed(0)

    def difference(numbers: Tensor) -> Tensor:
        first, second = (torch.rand(SIZE, generator=generator) for _ in range(2))
        return numbers + first - second

    steps, _, result = recorded(difference)
    before = result.clone()
    assert names(steps) == ["rand", "rand", "add", "sub", "copy"]
    for step in steps:
        step.run()
    assert not torch.equal(result, before)


def test_results_are_written_where_they_are_read_for_the_last_time() -> None:
    steps, _, _ = recorded(lambda numbers: (numbers + 1).relu().neg().clamp(min=-3))
    made = {
        leaf.data_ptr()
        for step in steps[:-1]
        for leaf in (*step.args[:1], *step.kwargs.values())
        if isinstance(leaf, Tensor)
    }
    # The numbers that were given, and one piece of memory for all that is made of them.
    assert len(made) == 2
