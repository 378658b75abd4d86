"""NTKMTL-SR: NTKMTL on the kernels of the shared representation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from mtrl_ntk.balancing.jacobian import Jacobian
from mtrl_ntk.balancing.methods.ntkmtl import EigenvalueConfig, EigenvalueWeighting
from mtrl_ntk.settings import number


@dataclass(frozen=True)
class NTKMTLSRConfig(EigenvalueConfig):
    """Hyper-parameters of NTKMTL-SR."""

    num_minibatches: int = number(4, at_least=1)
    """Mini-batches n per task: the rows and columns of each task's kernel."""
    representation_kernel: Literal["features", "rows"] = "features"
    """Inner products over features, as in Eq. 17, or over features of the same row only."""


class NTKMTLSR(EigenvalueWeighting):
    r"""Weights tasks as NTKMTL does, by the kernels of the shared representation.

    In place of the shared parameters stand the features :math:`z` that the tasks' own layers read,
    and the kernels are :math:`K_{ii}(z)`: Qin et al., *NTKMTL*, Eq. 17 and 18, with n = 4. The
    paper leaves this method out of its reinforcement learning for want of task-specific layers; a
    multi-head network has them. The two critics of a twin have a representation each, and their
    kernels add.

    Eq. 17 multiplies gradients of different samples feature by feature. The published code has them
    only as commented-out variants, in which the features of different samples are different
    coordinates, so that kernels are diagonal: the option ``rows``.
    """

    config_class = NTKMTLSRConfig
    needs_representation = True
    kernel_source = "representation"
    config: NTKMTLSRConfig

    def __init__(
        self, num_tasks: int, config: NTKMTLSRConfig | None = None, num_parameters: int = 0
    ) -> None:
        super().__init__(num_tasks, config, num_parameters)
        self.num_minibatches = self.config.num_minibatches

    def kernels(self, jacobian: Jacobian) -> Tensor:
        """Kernels of the representation, ``[tasks, n, n]``."""
        across_rows = self.config.representation_kernel == "features"
        return jacobian.representation_kernels(across_rows=across_rows)
