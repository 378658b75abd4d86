"""GO4Align: one weight per group of tasks of similar risk."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from mtrl_ntk.balancing.weighting import LossWeighting, floored
from mtrl_ntk.settings import Settings, number

_ITERATIONS = 20  # in one dimension and with few tasks, Lloyd's iteration stands still long before


@dataclass(frozen=True)
class GO4AlignConfig(Settings):
    """Hyper-parameters of GO4Align."""

    go4align_groups: int = number(3, at_least=1)
    """Groups of tasks that share a weight; as many as tasks at most."""
    go4align_step_size: float = number(1e-4, at_least=0)
    """How fast a task's share falls, per unit of its loss and step."""
    go4align_share_floor: float = number(1e-6, above=0, at_most=1)
    """Smallest share of a task, so that no task is lost for ever."""
    loss_floor: float = number(1e-8, above=0, at_most=1)
    """Smallest loss that counts, as a share of the tasks' mean."""


class GO4Align(LossWeighting):
    r"""Groups tasks by their risk, and gives every group one weight.

    .. math:: p_i \propto p_i e^{-\eta L_i}, \qquad v_i = p_i \sum_j L_j / L_i, \qquad
        w_i = \text{mean of } v \text{ over the group of } i,

    with groups from k-means of the scalars :math:`v`: Shen et al., *GO4Align: Group Optimization
    for Multi-Task Alignment*, arXiv 2404.06486, in the form of the authors' code. There
    the sum of weight times loss is minimised. Equal shares and losses give weights of one, which is
    mean scale already.

    The k-means starts from quantiles and runs a fixed number of iterations, so that it is the same
    for any order of the tasks; the code starts at random. With fewer tasks than groups each task is
    a group. The shares depend on all losses ever seen: tasks with larger losses end with no share
    after long training, as the exponent counts in units of the loss. Unlike the code's they stop at
    a floor. The number of groups is chosen per data set in the paper, which has no reinforcement
    learning; our default is a guess.
    """

    config_class = GO4AlignConfig
    config: GO4AlignConfig
    positive_losses = True
    log_shares: Tensor

    def __init__(
        self, num_tasks: int, config: GO4AlignConfig | None = None, num_parameters: int = 0
    ) -> None:
        super().__init__(num_tasks, config, num_parameters)
        self.register_buffer("log_shares", torch.full((num_tasks,), -math.log(num_tasks)))

    def forward(self, task_losses: Tensor) -> Tensor:
        """Weights ``[tasks]`` from losses ``[tasks]``."""
        # The mean of the others in place of a broken task's loss leaves its share about as it was.
        losses = floored(task_losses.double(), self.config.loss_floor)
        moved = (self.log_shares - self.config.go4align_step_size * losses).log_softmax(0)
        log_shares = moved.clamp(min=math.log(self.config.go4align_share_floor)).log_softmax(0)
        self.log_shares.copy_(log_shares)
        indicators = log_shares.exp() * losses.sum() / losses
        return group_means(indicators, self.config.go4align_groups).to(task_losses.dtype)


def group_means(values: Tensor, num_groups: int) -> Tensor:
    """Mean of the group of each value, by k-means in one dimension.

    Args:
        values: ``[n]``.
        num_groups: Largest number of groups; a group can end up empty.

    Returns:
        ``[n]``.
    """
    size = len(values)
    num_groups = min(num_groups, size)
    ordered = values.sort().values
    middles = [(2 * group + 1) * size // (2 * num_groups) for group in range(num_groups)]
    centres = torch.stack([ordered[middle] for middle in middles])
    groups = torch.arange(num_groups, device=values.device)
    nearest = groups.new_zeros(size)
    for _ in range(_ITERATIONS):
        nearest = (values[:, None] - centres).abs().argmin(1)
        members = (nearest[:, None] == groups).to(values.dtype)
        counts = members.sum(0)
        means = values @ members / counts.clamp(min=1.0)
        centres = torch.where(counts > 0, means, centres)
    return centres.gather(0, nearest)
