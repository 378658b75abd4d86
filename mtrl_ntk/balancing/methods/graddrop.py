"""GradDrop: each parameter follows the tasks of one sign, drawn at random."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mtrl_ntk.balancing.jacobian import Jacobian
from mtrl_ntk.balancing.weighting import Statistics, Weighting
from mtrl_ntk.settings import Settings, number


@dataclass(frozen=True)
class GradDropConfig(Settings):
    """Hyper-parameters of GradDrop."""

    graddrop_leak: float = number(0.0, at_least=0, at_most=1)
    """Share of the dropped gradients that is let through; 1 drops nothing."""


class GradDrop(Weighting):
    r"""Drops, for each parameter, the gradients of all tasks that point to one side.

    Let :math:`g^+` be the sum over tasks of a parameter's positive gradients and :math:`g^-` that
    of the negative ones. With :math:`P = g^+ / (g^+ - g^-)` the positive sign purity and one
    uniform number :math:`U` per parameter, the positive ones stay where :math:`P > U`, else the
    negative ones: Chen et al., *Just Pick a Sign*, arXiv 2010.06808, Algorithm 1. A leak
    :math:`\ell` adds :math:`\ell` times what was dropped. Whatever the leak, the expectation is the
    plain sum.

    The paper and LibMTL act on the activations of a layer; this acts on all shared parameters, as
    Kurin et al., arXiv 2201.04122, and torchjd do. All of them take the sum over tasks; mean scale
    divides it by their number. The weights are ones.

    The uniform numbers are the cdf of standard normal ones.
    """

    config_class = GradDropConfig
    config: GradDropConfig
    needs_rows = True

    def __init__(
        self, num_tasks: int, config: GradDropConfig | None = None, num_parameters: int = 0
    ) -> None:
        super().__init__(num_tasks, config, num_parameters)
        self.noise_shape = (num_parameters,)
        self._uniforms = torch.empty(0)

    def fit(self, num_parameters: int) -> None:
        """See :meth:`Weighting.fit`."""
        self.num_parameters = num_parameters
        self.noise_shape = (num_parameters,)

    def weigh(self, statistics: Statistics) -> Tensor:
        """Weights of one; the numbers that decide on the signs are kept for the step."""
        self._uniforms = torch.special.ndtr(statistics.noise)
        return torch.ones_like(statistics.task_losses)

    def combine(self, jacobian: Jacobian, weights: Tensor) -> Tensor:
        """See :meth:`Weighting.combine`; the last :meth:`weigh` drew the numbers."""
        gradients = jacobian.gradients()
        coefficients = weights / jacobian.num_tasks
        positive = coefficients @ gradients.clamp(min=0.0)
        negative = coefficients @ gradients.clamp(max=0.0)
        # Not divided, as nothing may pull at a parameter; not strict, as the cdf can round to one.
        keeps_positive = positive >= self._uniforms * (positive - negative)
        kept = torch.where(keeps_positive, positive, negative)
        return torch.lerp(kept, positive + negative, self.config.graddrop_leak)
