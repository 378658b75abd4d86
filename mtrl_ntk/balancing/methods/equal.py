"""Equal weights: the ordinary multi-task loss."""

from __future__ import annotations

import torch
from torch import Tensor

from mtrl_ntk.balancing.weighting import Statistics, Weighting


class Equal(Weighting):
    """Gives every task the weight one: unitary scalarisation, the paper's MTL SAC."""

    balances = False
    needs_kernels = False

    def weigh(self, statistics: Statistics) -> Tensor:
        """See :meth:`Weighting.weigh`."""
        return torch.ones_like(statistics.losses)
