"""The matrix products of an update, and how fast each of them alone can be."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from scripts.benchmarks.agents import Size, TimedSAC, make_batch

_PRODUCT_SHARE = 0.25
"""A matrix product is repeated until it has done this share of an update's multiplications."""
_LEAST_SHARE = 0.05
"""Products that do a smaller share of them in an update are not candidates for the ceiling."""


class Product(NamedTuple):
    """A matrix product by what its speed depends on: the shapes and strides of its factors."""

    left: tuple[tuple[int, ...], tuple[int, ...]]
    right: tuple[tuple[int, ...], tuple[int, ...]]

    @property
    def flops(self) -> int:
        """Multiplications and additions."""
        return 2 * math.prod(self.left[0]) * self.right[0][-1]

    def multiply(self, device: torch.device) -> Callable[[], object]:
        """A function that computes it once, from random numbers and into the same place."""
        left, right = (_filled(*factor, device) for factor in self)
        out = torch.matmul(left, right)
        return lambda: torch.matmul(left, right, out=out)


def _filled(shape: tuple[int, ...], stride: tuple[int, ...], device: torch.device) -> Tensor:
    return torch.empty_strided(shape, stride, device=device).normal_()


class ProductLog(TorchDispatchMode):
    """Counts the matrix products that are computed within."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.counts: Counter[Product] = Counter()

    def __torch_dispatch__(
        self,
        func: Any,  # noqa: ANN401 - PyTorch's operators have no common public type
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> object:
        """Notes the factors of a product, and computes it."""
        name = func.overloadpacket.__name__
        if name in ("mm", "bmm", "addmm", "baddbmm"):
            left, right = args[-2:]
            factors = ((tuple(x.shape), tuple(x.stride())) for x in (left, right))
            self.counts[Product(*factors)] += 1
        return func(*args, **(kwargs or {}))


def main_products(agent: TimedSAC, size: Size) -> list[Product]:
    """The products that do most of an update's multiplications."""
    batch = make_batch(size, agent.device)
    with ProductLog() as log:
        agent.update(batch)
    totals = {product: count * product.flops for product, count in log.counts.items()}
    least = _LEAST_SHARE * sum(totals.values())
    return [product for product, flops in totals.items() if flops >= least]


def product_rate(product: Product, agent: TimedSAC, flops: int) -> float:
    """Operations per second of a product, timed by the clock of the agent's updates."""
    repeats = math.ceil(_PRODUCT_SHARE * flops / product.flops)
    multiply = product.multiply(agent.device)
    with agent.stopwatch.part("product"):
        for _ in range(repeats):
            multiply()
    return 1e3 * repeats * product.flops / agent.stopwatch.read()["product"]
