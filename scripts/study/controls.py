"""Controls of the study: what NTKMTL's weights do when they are another task's, or never change.

Both are methods once ``--plugin scripts/study/controls.py`` stands on the command line:
``--method ntkmtl_shifted`` and ``--method constant --task-weights 2.5,0.8,1.1``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mtrl_ntk.balancing.methods import METHODS
from mtrl_ntk.balancing.methods.ntkmtl import NTKMTL
from mtrl_ntk.balancing.weighting import Statistics, Weighting
from mtrl_ntk.errors import ConfigError
from mtrl_ntk.settings import Settings


class ShiftedNTKMTL(NTKMTL):
    """Gives each task the weight that NTKMTL has for the task before it."""

    def forward(self, kernels: Tensor) -> Tensor:
        """Weights ``[tasks]`` from kernels ``[tasks, n, n]``."""
        return super().forward(kernels).roll(1)


@dataclass(frozen=True)
class ConstantConfig(Settings):
    """Hyper-parameters of constant weights."""

    task_weights: tuple[float, ...] = ()
    """Weight of each task, in the order of the tasks; by default one each."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if any(weight < 0 for weight in self.task_weights):
            raise ConfigError("task_weights holds a negative number; weights are zero or above")


class Constant(Weighting):
    """Gives tasks the same weights for ever, such as the averages of a method's over a run."""

    config_class = ConstantConfig
    config: ConstantConfig
    needs_kernels = False

    def __init__(
        self, num_tasks: int, config: ConstantConfig | None = None, num_parameters: int = 0
    ) -> None:
        super().__init__(num_tasks, config, num_parameters)
        weights = self.config.task_weights or (1.0,) * num_tasks
        if len(weights) != num_tasks:
            raise ConfigError(f"task_weights has {len(weights)} weights; it must have {num_tasks}")
        self.register_buffer("given", torch.tensor(weights))

    def weigh(self, statistics: Statistics) -> Tensor:
        """See :meth:`Weighting.weigh`."""
        given = self.get_buffer("given")
        return given.to(statistics.losses)


METHODS["ntkmtl_shifted"] = ShiftedNTKMTL
METHODS["constant"] = Constant
