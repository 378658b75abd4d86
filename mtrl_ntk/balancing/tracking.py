"""Methods that keep a moving average of every task's gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mtrl_ntk.balancing.weighting import Weighting


class TrackingWeighting(Weighting):
    """Base of methods with a moving average of each task's gradient.

    A task's average starts at its first finite gradient; a gradient that is not finite leaves it as
    it is. The averages get their size with the first gradients, or with a loaded state, unless the
    number of parameters was given.
    """

    needs_rows = True
    tracked: Tensor
    started: Tensor
    steps: Tensor

    def __init__(
        self, num_tasks: int, config: object | None = None, num_parameters: int = 0
    ) -> None:
        super().__init__(num_tasks, config, num_parameters)
        self.register_buffer("tracked", torch.zeros(num_tasks, num_parameters))
        self.register_buffer("started", torch.zeros(num_tasks, dtype=torch.bool))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def fit(self, num_parameters: int) -> None:
        """See :meth:`Weighting.fit`.

        Raises:
            ValueError: There are averages of gradients of another size.
        """
        if self.num_parameters not in (0, num_parameters):
            raise ValueError(
                f"{type(self).__name__} was made for {self.num_parameters} shared parameters; "
                f"the gradients have {num_parameters}"
            )
        self.num_parameters = num_parameters
        if self.tracked.shape[1] != num_parameters:
            self.tracked = self.tracked.new_zeros(self.num_tasks, num_parameters)

    def track(self, gradients: Tensor, finite: Tensor, share: Tensor) -> None:
        """Moves the averages towards gradients.

        Args:
            gradients: ``[tasks, parameters]``.
            finite: Which of them count, ``[tasks]``.
            share: Of a new gradient in an average that has started, a scalar.
        """
        self.fit(gradients.shape[1])
        rates = torch.where(self.started, share, 1.0)
        rates = rates.masked_fill(~finite, 0.0).to(self.tracked.dtype)
        self.tracked.lerp_(gradients.to(self.tracked.dtype), rates[:, None])
        self.started.logical_or_(finite)

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        *others: Any,  # noqa: ANN401
    ) -> None:
        saved = state_dict.get(f"{prefix}tracked")
        if saved is not None and not self.num_parameters:
            self.fit(saved.shape[1])
        super()._load_from_state_dict(state_dict, prefix, *others)
