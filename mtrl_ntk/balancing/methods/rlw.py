"""Random loss weighting: new random weights at every step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from mtrl_ntk.balancing.weighting import Statistics, Weighting
from mtrl_ntk.settings import Settings


@dataclass(frozen=True)
class RLWConfig(Settings):
    """Hyper-parameters of random loss weighting."""

    rlw_distribution: Literal["normal", "dirichlet"] = "normal"
    """Softmax of standard normal numbers, or uniform on the simplex."""


class RLW(Weighting):
    """Draws a point of the simplex at every step: the litmus test of all balancing.

    Lin et al., *Reasonable Effectiveness of Random Weighting*, arXiv 2111.10603. The
    expected weights are equal, so what the method adds is noise only. ``normal`` is the softmax of
    standard normal numbers, the default of the authors' library LibMTL; ``dirichlet`` has all
    concentrations one. Mean scale multiplies the point by the number of tasks, as LibMTL does.

    Standard normal numbers ``z`` are all that a method gets. Exponential ones are made of them as
    ``-log(1 - cdf(z))``, and exponential numbers divided by their sum are Dirichlet distributed.
    """

    config_class = RLWConfig
    config: RLWConfig
    needs_kernels = False

    def __init__(
        self, num_tasks: int, config: RLWConfig | None = None, num_parameters: int = 0
    ) -> None:
        super().__init__(num_tasks, config, num_parameters)
        self.noise_shape = (num_tasks,)

    def weigh(self, statistics: Statistics) -> Tensor:
        """See :meth:`Weighting.weigh`."""
        weights: Tensor = self(statistics.noise)
        return weights

    def forward(self, noise: Tensor) -> Tensor:
        """Weights ``[tasks]`` from standard normal numbers ``[tasks]``."""
        if self.config.rlw_distribution == "normal":
            return self.num_tasks * noise.softmax(0)
        # One minus the cdf of z is the cdf of -z, whose logarithm keeps its digits in the tails.
        exponentials: Tensor = -torch.special.log_ndtr(-noise)
        return self.num_tasks * exponentials / exponentials.sum()
