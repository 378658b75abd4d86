"""Agents whose updates are timed: one per balancing method, and the two they are compared with.

``plain`` is the same agent with the same networks, batch, clipping and optimisers, but without a
tape: ``torch.autograd.grad`` of the mean loss. ``sequential`` is NTKMTL with one backward pass per
row of the Jacobian, the published way.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mtrl_ntk.balancing import (
    BalancedStep,
    Balancer,
    Tape,
    Weighting,
    factored_jacobian,
    sequential_jacobian,
)
from mtrl_ntk.balancing.methods import METHODS
from mtrl_ntk.rl.heap import keep_freed_memory
from mtrl_ntk.rl.networks import why_not
from mtrl_ntk.rl.precision import Precision
from mtrl_ntk.rl.sac import MultiTaskSAC, Part, SacConfig, make_weighting
from mtrl_ntk.rl.types import Batch, Metrics
from mtrl_ntk.settings import Settings, number

PLAIN, EQUAL, SEQUENTIAL = "plain", "equal", "sequential"

_METHOD_OF = {PLAIN: EQUAL, SEQUENTIAL: "ntkmtl"}
OBSERVATION_DIM, ACTION_DIM = 39, 4
"""Those of Meta-World, whose simulator is not needed here."""


@dataclass(frozen=True)
class Size(Settings):
    """How large an update is."""

    tasks: int = number(10, at_least=1)
    """Tasks."""
    rows: int = number(128, at_least=1)
    """Replay rows per task."""
    width: int = number(400, at_least=1)
    """Units of each hidden layer."""
    depth: int = number(3, at_least=1)
    """Hidden layers."""


class Variant(NamedTuple):
    """What an agent balances with: a method with its options, ``plain`` or ``sequential``."""

    name: str
    n: int = 1
    """Mini-batches per task, for the methods that have such an option."""
    kernel: str = "loss"
    """Kind of kernel, for the methods that have such an option."""
    precision: Precision = "float32"
    """In which the layers multiply."""

    @property
    def label(self) -> str:
        """Name and kind of kernel."""
        return self.name if self.kernel == "loss" else f"{self.name}_{self.kernel}"

    @property
    def method(self) -> type[Weighting]:
        """The method that makes the weights."""
        return METHODS[_METHOD_OF.get(self.name, self.name)]

    @property
    def options(self) -> set[str]:
        """Names of the method's options."""
        return {field.name for field in fields(self.method.config_class)}

    def fits(self, network: str) -> bool:
        """Whether it can be measured on a kind of network."""
        if self.name == SEQUENTIAL:
            return network == "shared"
        return why_not(self.method, network) is None

    def weighting(self, num_tasks: int, part: Part, num_parameters: int) -> Weighting:
        """Makes the method as a run does, for a network with so many shared parameters."""
        asked = {"num_minibatches": self.n, "kernel": self.kernel}
        known = {name: value for name, value in asked.items() if name in self.options}
        config = self.method.config_class(**known)
        return make_weighting(self.method, config, num_tasks, part, num_parameters)


class Stopwatch:
    """Times the parts of an update.

    On the CPU it counts the time that this thread was computing: the machine may be shared, and
    the wall clock also counts the time that others had the core. That needs one torch thread. On
    CUDA it counts from event to event, so that the host need not wait between the parts.
    """

    def __init__(self, device: torch.device) -> None:
        self._on_cuda = device.type == "cuda"
        self._spans: dict[str, tuple[Any, Any]] = {}

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Times what happens within."""
        start = self._now()
        yield
        self._spans[name] = (start, self._now())

    def _now(self) -> float | torch.cuda.Event:
        if not self._on_cuda:
            return time.thread_time()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def read(self) -> dict[str, float]:
        """Latest milliseconds by part, once the device is done."""
        if not self._on_cuda:
            return {name: 1e3 * (end - start) for name, (start, end) in self._spans.items()}
        torch.cuda.synchronize()
        return {name: start.elapsed_time(end) for name, (start, end) in self._spans.items()}


class TimedSAC(MultiTaskSAC):
    """An agent whose updates are timed."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - as its base class
        super().__init__(*args, **kwargs)
        self.stopwatch = Stopwatch(self.device)

    def update(self, *args: Any, **kwargs: Any) -> Metrics:  # noqa: ANN401
        """See the base class."""
        with self.stopwatch.part("update"):
            return super().update(*args, **kwargs)

    def update_critic(self, *args: Any, **kwargs: Any) -> BalancedStep:  # noqa: ANN401
        """See the base class."""
        with self.stopwatch.part("critic"):
            return super().update_critic(*args, **kwargs)

    def update_actor(self, *args: Any, **kwargs: Any) -> tuple[BalancedStep, Tensor]:  # noqa: ANN401
        """See the base class."""
        with self.stopwatch.part("actor"):
            return super().update_actor(*args, **kwargs)


class PlainStep(Balancer):
    """One ordinary step on the mean loss."""

    def step(
        self,
        tape: Tape,
        sample_losses: Tensor,
        *,
        outputs: Tensor | None = None,  # noqa: ARG002 - there is nothing to balance
        noise: Tensor | None = None,  # noqa: ARG002
        reevaluate: Callable[[], Tensor] | None = None,  # noqa: ARG002
        diagnose: bool = False,  # noqa: ARG002
    ) -> BalancedStep:
        """Differentiates the mean of all losses and takes one optimiser step."""
        if tape.factors:
            raise RuntimeError("the ordinary update ran through a tape, which is not ordinary")
        parameters = [*self.shared, *self.task_specific]
        gradients = torch.autograd.grad(sample_losses.mean(), parameters)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            # Those of a layer per task come transposed; fused Adam reads them as the memory lies.
            parameter.grad = gradient.contiguous()
        norm = nn.utils.clip_grad_norm_(parameters, self.max_grad_norm)
        self.optimizer.step()
        losses = sample_losses.detach().mean(1)
        zeros = torch.zeros_like(losses)
        return BalancedStep(
            losses=losses,
            weights=zeros,
            eigenvalues=zeros,
            skipped=zeros,
            gradient_norm=norm,
            minimum_cosine=None,
            residual=None,
        )


class PlainSAC(TimedSAC):
    """The same agent without balancing: no tape, one backward pass to the parameters."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - as its base class
        super().__init__(*args, **kwargs)
        self.critic_balancer = _plain(self.critic, self.critic_balancer)
        self.actor_balancer = _plain(self.actor, self.actor_balancer)
        for network in (self.critic, self.actor):
            network.register_forward_pre_hook(_without_tape)


def _plain(network: nn.Module, balancer: Balancer) -> PlainStep:
    return PlainStep(network, balancer.weighting, balancer.optimizer, balancer.max_grad_norm)


def _without_tape(_: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(argument for argument in arguments if not isinstance(argument, Tape))


def make_agent(variant: Variant, size: Size, network: str, device: torch.device | str) -> TimedSAC:
    """Makes an untrained agent, in a process that keeps memory as train_mt10's does."""
    keep_freed_memory()
    return (PlainSAC if variant.name == PLAIN else TimedSAC)(
        size.tasks,
        OBSERVATION_DIM,
        ACTION_DIM,
        config=SacConfig(
            batch_size=size.rows,
            network=network,
            width=size.width,
            depth=size.depth,
            precision=variant.precision,
        ),
        make_weighting=lambda part, number: variant.weighting(size.tasks, part, number),
        seed=0,
        device=device,
        differentiate=sequential_jacobian if variant.name == SEQUENTIAL else factored_jacobian,
    )


def make_batch(size: Size, device: torch.device | str) -> Batch:
    """Draws a batch of random transitions, none of them terminal."""
    generator = torch.Generator(device).manual_seed(0)

    def draw(*features: int) -> Tensor:
        shape = (size.tasks, size.rows, *features)
        return torch.randn(shape, generator=generator, device=device)

    return Batch(
        draw(OBSERVATION_DIM),
        draw(ACTION_DIM).tanh(),
        draw(),
        draw(OBSERVATION_DIM),
        torch.zeros_like(draw()),
    )
