"""NTKMTL: weights from the tasks' neural tangent kernels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mtrl_ntk.balancing.kernels import largest_eigenvalues
from mtrl_ntk.balancing.weighting import KernelWeighting


@dataclass(frozen=True)
class NTKMTLConfig:
    """Hyper-parameters of NTKMTL."""

    exponent: float = 0.5
    """Power of the eigenvalue ratio; 0.5 is the paper's Eq. 15, 0 gives equal weights."""
    num_minibatches: int = 1
    """Mini-batches n per task: the rows and columns of each task's kernel."""
    eigenvalue_floor: float = 1e-10
    """Smallest eigenvalue that counts, as a share of the tasks' mean."""

    def __post_init__(self) -> None:
        """Raises a ValueError that names the first bad value."""
        if self.exponent < 0:
            raise ValueError(f"exponent is {self.exponent}; it must be at least 0")
        if not 0 < self.eigenvalue_floor <= 1:
            raise ValueError(f"eigenvalue_floor is {self.eigenvalue_floor}; it must be in (0, 1]")


class NTKMTL(KernelWeighting):
    r"""Weights tasks by the inverse speed at which their tangent kernel lets them learn.

    With :math:`\lambda_i` the largest eigenvalue of task :math:`i`'s kernel :math:`K_{ii}`,

    .. math:: \omega_i = \Big(\frac{\frac1k \sum_j \lambda_j}{\lambda_i}\Big)^{1/2},

    see Qin et al., *NTKMTL: Mitigating Task Imbalance in Multi-Task Learning from Neural Tangent
    Kernel Perspective*, Eq. 15. The published code takes the sum in place of the mean, multiplies
    the shared gradient by the number of tasks and clips it to norm one; we follow the paper.

    With one mini-batch and the exponent 1/2 all weighted gradients have the same norm. Eigenvalues
    are floored relative to their mean, so that a task without a gradient keeps a finite weight.
    """

    config_class = NTKMTLConfig
    config: NTKMTLConfig

    def __init__(self, num_tasks: int, config: NTKMTLConfig | None = None) -> None:
        super().__init__(num_tasks, config)
        self.num_minibatches = self.config.num_minibatches

    def forward(self, kernels: Tensor) -> Tensor:
        """Weights ``[tasks]`` from kernels ``[tasks, n, n]``."""
        eigenvalues = largest_eigenvalues(kernels)
        mean = eigenvalues.mean()
        floor = self.config.eigenvalue_floor * mean
        # The floor itself can underflow.
        floored = eigenvalues.clamp(min=floor).clamp(min=torch.finfo(floor.dtype).tiny)
        # Without any gradient there is no ratio to take, and no weight matters.
        ratios = (mean / floored).masked_fill(mean <= 0, 1.0)
        return ratios**self.config.exponent
