"""Aligned-MTL: gradients made orthogonal and of one length before they are summed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from mtrl_ntk.balancing.solvers.eigen import symmetric_eigen
from mtrl_ntk.balancing.solvers.scaling import as_weights
from mtrl_ntk.balancing.weighting import GramianWeighting, preferred_sum
from mtrl_ntk.settings import Settings


@dataclass(frozen=True)
class AlignedMTLConfig(Settings):
    """Hyper-parameters of Aligned-MTL."""

    aligned_scale: Literal["min", "median", "rmse"] = "min"
    """Singular value that all are set to: the paper's smallest, the median, or their root mean
    square."""


class AlignedMTL(GramianWeighting):
    r"""Replaces the gradients' matrix by the nearest one whose singular values are all equal.

    With the Gramian's positive eigenvalues :math:`\lambda_r` and eigenvectors :math:`v_r`,

    .. math:: w = \sqrt{\lambda_{\min}} \sum_r \frac{v_r^\top 1}{\sqrt{\lambda_r}} v_r,

    see Senushkin et al., *Independent Component Alignment for Multi-Task Learning*, arXiv
    2305.19000, Algorithm 1 with equal task importances, or preferences. Mean scale takes the
    weights as they are: they replace importances of one, and are one for orthogonal gradients of
    one length.

    ``median`` and ``rmse``, of the published code, put the lower median and the mean of the kept
    eigenvalues in the place of the smallest, with which the step vanishes as two gradients become
    parallel or one small. Eigenvalues up to tasks times the machine precision of the Gramian's type
    times the largest count as zero, as in that code; so the smallest that is kept jumps where one
    crosses the threshold. A task without a gradient gets the weight zero. The residual is the
    largest difference of the aligned gradients' cosines from those of orthogonal ones, which bounds
    the relative error of the step; an eigenvalue near the threshold has no more digits than that.
    """

    config_class = AlignedMTLConfig
    knows_preferences = True
    config: AlignedMTLConfig

    def forward(self, gramian: Tensor, preferences: Tensor | None = None) -> Tensor:
        """Weights ``[tasks]`` from the Gramian ``[tasks, tasks]`` and preferences ``[tasks]``."""
        values, vectors, _ = symmetric_eigen(gramian)
        threshold = values.max() * (self.num_tasks * torch.finfo(gramian.dtype).eps)
        kept = values > threshold
        roots = values.rsqrt().masked_fill(~kept, 0.0)
        aligned = vectors * roots
        products = aligned.mT @ gramian.double() @ aligned
        self.residual = (products - torch.diag_embed(kept.double())).abs().max()
        importances = preferred_sum(vectors, preferences)
        coefficients = self._scale(values, kept).sqrt() * roots * importances
        return as_weights(vectors @ coefficients, gramian)

    def _scale(self, values: Tensor, kept: Tensor) -> Tensor:
        """The eigenvalue ``[1]`` that all kept ones are set to."""
        number = kept.sum(0, keepdim=True)
        if self.config.aligned_scale == "rmse":
            return values.masked_fill(~kept, 0.0).sum() / number
        ascending = values.masked_fill(~kept, 0.0).sort().values
        place = self.num_tasks - number
        if self.config.aligned_scale == "median":
            place = place + (number - 1) // 2
        return ascending.gather(0, place.clamp(max=self.num_tasks - 1))
