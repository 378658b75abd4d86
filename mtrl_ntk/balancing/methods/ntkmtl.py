"""NTKMTL: weights from the tasks' neural tangent kernels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from mtrl_ntk.balancing.kernels import largest_eigenvalues
from mtrl_ntk.balancing.weighting import KernelWeighting, floored
from mtrl_ntk.settings import Settings, number


@dataclass(frozen=True)
class EigenvalueConfig(Settings):
    """Hyper-parameters of weights from eigenvalues."""

    exponent: float = number(0.5, at_least=0)
    """Power of the eigenvalue ratio; 0.5 is the paper's Eq. 15, 0 gives equal weights."""
    eigenvalue_floor: float = number(1e-10, above=0, at_most=1)
    """Smallest eigenvalue that counts, as a share of the tasks' mean."""


class EigenvalueWeighting(KernelWeighting):
    """Weights tasks by the largest eigenvalues of their kernels, relative to the mean."""

    config: EigenvalueConfig

    def forward(self, kernels: Tensor) -> Tensor:
        """Weights ``[tasks]`` from kernels ``[tasks, n, n]``."""
        self.eigenvalues = eigenvalues = largest_eigenvalues(kernels)
        mean = eigenvalues.mean()
        ratios = mean / floored(eigenvalues, self.config.eigenvalue_floor)
        # Without any gradient there is no ratio to take, and no weight matters.
        return ratios.masked_fill(mean <= 0, 1.0) ** self.config.exponent


@dataclass(frozen=True)
class NTKMTLConfig(EigenvalueConfig):
    """Hyper-parameters of NTKMTL."""

    num_minibatches: int = number(1, at_least=1)
    """Mini-batches n per task: the rows and columns of each task's kernel."""
    kernel: Literal["loss", "output"] = "loss"
    """Gradients of mini-batch losses, as in the paper's experiments, or of outputs, its theory."""

    def __post_init__(self) -> None:
        """Raises a ValueError that names the first bad value."""
        super().__post_init__()
        if self.kernel == "output" and self.num_minibatches != 1:
            raise ValueError(
                f"num_minibatches is {self.num_minibatches}; it must be 1 for the kernel of the "
                "outputs, which has a row per sample"
            )


class NTKMTL(EigenvalueWeighting):
    r"""Weights tasks by the inverse speed at which their tangent kernel lets them learn.

    With :math:`\lambda_i` the largest eigenvalue of task :math:`i`'s kernel :math:`K_{ii}`,

    .. math:: \omega_i = \Big(\frac{\frac1k \sum_j \lambda_j}{\lambda_i}\Big)^{1/2},

    see Qin et al., *NTKMTL: Mitigating Task Imbalance in Multi-Task Learning from Neural Tangent
    Kernel Perspective*, Eq. 15. The published code takes the sum in place of the mean, multiplies
    the shared gradient by the number of tasks and clips it to norm one; we follow the paper.

    The kernel of the losses has a row per mini-batch, the gradient of its mean loss. That of the
    outputs has a row per sample and output: the critic's values, the actor's mean action before the
    tanh. It does not shrink as a task is solved, and costs a backward pass per output.

    With one mini-batch and the exponent 1/2 all weighted gradients have the same norm. Eigenvalues
    are floored relative to their mean, so that a task without a gradient keeps a finite weight.
    """

    config_class = NTKMTLConfig
    config: NTKMTLConfig

    def __init__(
        self, num_tasks: int, config: NTKMTLConfig | None = None, num_parameters: int = 0
    ) -> None:
        super().__init__(num_tasks, config, num_parameters)
        self.num_minibatches = self.config.num_minibatches
        self.kernel_source = self.config.kernel
