"""The matrix products of an update: counted and repeated."""

from __future__ import annotations

import torch
from torch.utils.flop_counter import FlopCounterMode

from scripts.benchmarks.agents import Size, Variant, make_agent, make_batch
from scripts.benchmarks.products import Product, ProductLog, main_products

SIZE = Size(tasks=2, rows=8, width=16)


def test_products_are_counted_as_pytorch_counts_them() -> None:
    agent, batch = make_agent(Variant("ntkmtl"), SIZE, "shared", "cpu"), make_batch(SIZE, "cpu")
    agent.update(batch)
    with FlopCounterMode(display=False) as counter:
        agent.update(batch)
    with ProductLog() as log:
        agent.update(batch)
    flops = sum(count * product.flops for product, count in log.counts.items())
    assert flops == counter.get_total_flops()


def test_the_ceiling_is_that_of_the_main_products() -> None:
    size = Size(tasks=3, rows=8, width=64, depth=3)
    agent = make_agent(Variant("ntkmtl"), size, "shared", "cpu")
    shapes = {(product.left[0], product.right[0]) for product in main_products(agent, size)}
    forward, per_task = ((24, 64), (64, 64)), ((3, 64, 8), (3, 8, 64))
    assert {forward, per_task} <= shapes
    # The last layer of a critic has one output: that would be no ceiling.
    assert all(right[-1] > 1 for _, right in shapes)


def test_a_product_is_repeated_as_it_is_laid_out_in_memory() -> None:
    product = Product(((6, 5), (5, 1)), ((5, 7), (1, 5)))
    assert product.flops == 2 * 6 * 5 * 7
    result = product.multiply(torch.device("cpu"))()
    assert isinstance(result, torch.Tensor)
    assert result.shape == (6, 7)
