"""Compares balancing any network with TorchJD and LibMTL: lines, time, memory and directions.

The same network, batch and method (IMTL-G, which all three have) in all of them, by the code that a
user of each writes; see ``shared_input.py`` for how time and memory are measured. Directions are
those of gradients in float64, at each library's defaults and with equal settings. A library that is
not installed is left out. Run it as ``python -m scripts.benchmarks.balancers --trunk convolutions
--width 32``.

LibMTL's release on PyPI (1.1.5) asks for a torchvision of 2021 when it is imported, and its trainer
for CUDA; its weightings are loaded by themselves here, and made a model of as its trainer does.
"""

from __future__ import annotations

import argparse
import inspect
import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from mtrl_ntk.balancing import TaskBalancer, aggregate
from mtrl_ntk.balancing.methods import METHODS
from scripts.benchmarks.shared_input import TRUNKS, Steps, Way, report


def plain(steps: Steps) -> Way:
    """The plain sum."""

    def step() -> None:
        torch.stack(steps.losses()).mean().backward()

    return step


def own(steps: Steps, rows_at_once: int | None = None) -> Way:
    """This package."""
    trunk, heads = steps.network.trunk, steps.network.heads
    weighting = METHODS["imtl_g"](steps.tasks)
    balancer = TaskBalancer(weighting, trunk, heads, rows_at_once=rows_at_once)

    def step() -> None:
        balancer.backward(steps.losses())

    return step


def torchjd(steps: Steps, rows_at_once: int | None = None) -> Way:
    """TorchJD."""
    from torchjd.aggregation import IMTLG
    from torchjd.autojac import jac_to_grad, mtl_backward

    shared, aggregator = list(steps.network.trunk.parameters()), IMTLG()

    def step() -> None:
        z = steps.network.trunk(steps.inputs)
        losses = [loss.mean() for loss in steps.losses(z)]
        mtl_backward(losses, features=z, shared_params=shared, parallel_chunk_size=rows_at_once)
        jac_to_grad(shared, aggregator)

    return step


def libmtl(steps: Steps, name: str = "IMTL") -> Way:
    """LibMTL."""
    weighting: Any = getattr(_weightings(), name)

    class Model(weighting):  # type: ignore[misc]
        task_num, device, rep_grad = steps.tasks, "cpu", False

        def get_share_params(self) -> Any:  # noqa: ANN401
            return steps.network.trunk.parameters()

        def zero_grad_share_params(self) -> None:
            steps.network.trunk.zero_grad(set_to_none=False)

    model = Model()
    model.init_param()

    def step() -> None:
        losses = torch.stack([loss.mean() for loss in steps.losses()])
        model.backward(losses)

    return step


def _weightings() -> ModuleType:
    if "LibMTL" not in sys.modules:
        spec = find_spec("LibMTL")
        package = ModuleType("LibMTL")
        package.__path__ = list((spec and spec.submodule_search_locations) or ())
        sys.modules["LibMTL"] = package
    return import_module("LibMTL.weighting")


LIBRARIES: dict[str, Callable[..., Way]] = {"torchjd": torchjd, "LibMTL": libmtl}
"""What takes a step with each other library, by its name as a module."""


def num_lines(make: Callable[..., Way]) -> int:
    """Lines that a user writes, of which a plain loop has three."""
    lines = inspect.getsource(make).splitlines()
    return sum(bool(line.strip()) for line in lines) - sum('"""' in line for line in lines)


def fresh(make: Callable[..., Way], steps: Steps, **options: Any) -> Way:  # noqa: ANN401
    """A step that begins without gradients."""
    step = make(steps, **options)

    def whole() -> None:
        steps.network.zero_grad()
        step()

    return whole


def makers_of(steps: Steps) -> dict[str, Callable[[], Way]]:
    """All ways that can be gone here."""
    makers: dict[str, Callable[[], Way]] = {"plain sum": partial(fresh, plain, steps)}
    libraries: dict[str, Callable[..., Way]] = {"own": own}
    libraries |= {name: make for name, make in LIBRARIES.items() if find_spec(name)}
    for name, make in libraries.items():
        makers[name] = partial(fresh, make, steps)
        if "rows_at_once" in inspect.signature(make).parameters:
            makers[f"{name}, one by one"] = partial(fresh, make, steps, rows_at_once=1)
        print(f"{name:24} {num_lines(make) - num_lines(plain):8} more lines than a plain loop")
    return makers


def gradients(tasks: int, spread: float) -> Tensor:
    """Gradients ``[tasks, 2 tasks]`` of which half conflict, with norms that are so far apart."""
    scales = spread ** torch.linspace(0, 1, tasks, dtype=torch.float64)
    return scales[:, None] * torch.randn(tasks, 2 * tasks, dtype=torch.float64)


def compared() -> list[tuple[str, dict[str, object], Any]]:
    """Our methods with their options, and what they are in TorchJD: at defaults, then set alike."""
    from torchjd.aggregation import IMTLG, MGDA, AlignedMTL, CAGrad, UPGrad
    from torchjd.linalg import QuadprogProjector

    return [
        ("upgrad", {}, UPGrad()),
        ("upgrad", {}, UPGrad(projector=QuadprogProjector(norm_eps=0.0, reg_eps=1e-12))),
        ("imtl_g", {}, IMTLG()),
        ("imtl_g", {"gramian_ridge": 1e-12}, IMTLG()),
        ("mgda", {}, MGDA()),
        ("mgda", {}, MGDA(epsilon=1e-9, max_iters=5_000)),
        ("cagrad", {"cagrad_c": 0.5}, CAGrad(c=0.5)),
        ("aligned_mtl", {}, AlignedMTL()),
    ]


def directions(tasks: int, repeats: int = 10) -> None:
    """Prints how far the cosines between our directions and TorchJD's are from one, at most."""
    for method, options, theirs in compared():
        weighting: Any = METHODS[method]
        for spread in (1.0, 100.0):
            worst = 0.0
            for seed in range(repeats):
                torch.manual_seed(seed)
                rows = gradients(tasks, spread)
                ours = aggregate(weighting(tasks, weighting.config_class(**options)), rows)
                cosine = torch.cosine_similarity(ours, theirs(rows), dim=0)
                worst = max(worst, 1 - cosine.item())
            print(f"{method} {options}, {theirs!r}: norms {spread:.0f} apart: {worst:.1e}")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--tasks", type=int, default=10)
    parser.add_argument("--rows", type=int, default=128)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--trunk", choices=TRUNKS, default="linear")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    steps = Steps(options.tasks, options.rows, options.width, options.trunk)
    report(makers_of(steps), steps.network, options.rounds)
    if find_spec("torchjd"):
        directions(options.tasks)


if __name__ == "__main__":
    main()
