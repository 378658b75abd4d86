"""Records, layer by layer, what the parameter gradients of a network are made of.

A network that calls its layers through a :class:`Tape` leaves behind a factor of each, so that one
backward pass, to the outputs of the layers only, gives the gradients of all tasks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from mtrl_ntk.balancing.ensemble import Ensemble
from mtrl_ntk.balancing.factors import Factor, KernelFactor, coarsest, kind_of
from mtrl_ntk.balancing.layers import TaskEmbedding, TaskLayer

ApplyLayer = Callable[[nn.Module, Tensor], Tensor]
"""Applies a layer to its inputs; networks take one, so that a tape can replace the plain call."""


def apply_layer(layer: nn.Module, inputs: Tensor) -> Tensor:
    """Applies ``layer`` without recording anything."""
    outputs: Tensor = layer(inputs)
    return outputs


class Tape:
    """Applies layers to ``[tasks, batch, features]`` and keeps one :class:`Factor` of each call.

    Layers without parameters, such as activations, pass through unrecorded. They may not overwrite
    what a recorded layer was given or returned. A tape serves one forward pass; each layer may
    appear on it once.

    Attributes:
        representations: What the tasks' own layers read that a shared layer, or none, has made.
        shared: Factors of the layers that all tasks share.
        task_specific: Factors of the layers of which every task has its own copy.
    """

    def __init__(self) -> None:
        self.shared: list[KernelFactor] = []
        self.task_specific: list[Factor] = []
        self._watched: list[tuple[nn.Module, Tensor, int]] = []
        self._reads_shared = True
        self.representations: list[Tensor] = []

    def __call__(self, layer: nn.Module, inputs: Tensor) -> Tensor:
        """Applies ``layer`` to ``inputs [tasks, batch, features]`` and records the call.

        An ensemble is applied to ``[members, tasks, batch, features]``, and recorded as the calls
        of its layers.

        Raises:
            TypeError: If the tape does not know this kind of layer.
        """
        members = layer.members if isinstance(layer, Ensemble) else (layer,)
        kind = kind_of(members[0])
        if kind is None:
            return apply_layer(layer, inputs)
        self._notice(members[0], inputs)
        recorded, outputs = kind.apply(layer, inputs)
        if isinstance(layer, Ensemble):
            for index, member in enumerate(members):
                self._keep(member, kind(member, recorded[index], outputs, index))
        else:
            self._keep(layer, kind(layer, recorded, outputs))
        self._watch(layer, outputs, recorded)
        return outputs

    def _notice(self, layer: nn.Module, inputs: Tensor) -> None:
        """Keeps what the first of some layers of the tasks' own reads; embeddings read nothing."""
        if isinstance(layer, TaskEmbedding):
            return
        is_own = isinstance(layer, TaskLayer)
        known = any(inputs is each for each in self.representations)
        if is_own and self._reads_shared and inputs.requires_grad and not known:
            self.representations.append(inputs)
        self._reads_shared = not is_own

    def _keep(self, layer: nn.Module, factor: Factor) -> None:
        """Puts a factor behind the others of its network."""
        kept: list[Any] = self.task_specific if isinstance(layer, TaskLayer) else self.shared
        # As ``bisect.insort`` does, which compilers do not follow.
        place = sum((other.member or 0) <= (factor.member or 0) for other in kept)
        kept.insert(place, factor)

    def _watch(self, layer: nn.Module, *tensors: Tensor) -> None:
        # A compiled graph knows no versions.
        if not torch.compiler.is_compiling():
            self._watched += [(layer, tensor, tensor._version) for tensor in tensors]

    def check_records(self) -> None:
        """Checks that what the layers were given and what they returned is still there.

        Autograd would take the gradient at what outputs were overwritten with, without a word, and
        overwritten inputs would go into the products.

        Raises:
            ValueError: If some were overwritten.
        """
        for layer, tensor, version in self._watched:
            if tensor._version != version:
                raise ValueError(
                    f"inputs or outputs of {layer} were overwritten, so that its gradient is lost; "
                    "what follows has to make a new tensor: nn.ReLU() for nn.ReLU(inplace=True)"
                )

    @property
    def precision(self) -> torch.dtype:
        """The coarsest in which a layer has multiplied."""
        return coarsest([factor.outputs.dtype for factor in self.factors])

    @property
    def factors(self) -> list[Factor]:
        """All factors, the shared layers' first."""
        return [*self.shared, *self.task_specific]
