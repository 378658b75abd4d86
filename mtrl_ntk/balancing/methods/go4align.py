"""GO4Align: one weight per group of tasks of similar risk."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from mtrl_ntk.balancing.weighting import LossWeighting, floored
from mtrl_ntk.settings import Settings, number


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

    The groups are the best ones, for any order of the tasks; the code's k-means starts at random
    and ends where it gets to. With fewer tasks than groups each task is a group. The shares depend
    on all losses ever seen: tasks with larger losses end with no share after long training, as the
    exponent counts in units of the loss. Unlike the code's they stop at a floor. The number of
    groups is chosen per data set in the paper, which has no reinforcement learning; our default is
    a guess.
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
    """Mean of the group of each value, by the grouping of the least squared distances.

    In one dimension groups are intervals, and the best ones of the first values are the best of
    fewer followed by one more group: Wang and Song, *Ckmeans.1d.dp*, The R Journal 2011.

    Args:
        values: ``[n]``, at least zero.
        num_groups: Number of groups; with fewer values each is a group.

    Returns:
        ``[n]``.
    """
    ordered, order = values.sort()
    means, costs = _intervals(ordered)
    best, starts = costs[0], []
    for _ in range(min(num_groups, len(values)) - 1):
        # A group from `start` to `end` follows the best groups of what ends before it.
        best, start = (best.roll(1)[:, None] + costs)[1:].min(0)
        starts.append(start + 1)
    places = torch.arange(len(values), device=values.device)
    end, grouped = places[-1:], torch.zeros_like(values)
    for start in reversed(starts):
        first = start.gather(0, end)
        inside = (places >= first) & (places <= end)
        grouped = torch.where(inside, _entry(means, first, end), grouped)
        end = first - 1
    grouped = torch.where(places <= end, _entry(means, places[:1], end), grouped)
    return torch.empty_like(values).scatter_(0, order, grouped)


def _intervals(ordered: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and sum of squared distances to it, of each interval, ``[first, last]``.

    A last value adds its squared distance to the mean of those before it times their share, so
    that no large numbers are subtracted. What ends before it starts costs infinitely much.
    """
    within = torch.ones(len(ordered), len(ordered), device=ordered.device).triu() > 0
    counts = within.cumsum(1)
    means = (ordered * within).cumsum(1) / counts.clamp(min=1)
    before = counts.roll(1, 1) / counts.clamp(min=1)
    added = before * (ordered - means.roll(1, 1)).square()
    first = counts == 1
    costs = added.masked_fill(first | ~within, 0.0).cumsum(1)
    return means, costs.masked_fill(~within, torch.inf)


def _entry(matrix: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """An entry ``[1]`` at places on the device."""
    return matrix.index_select(0, row).index_select(1, column)[0]
