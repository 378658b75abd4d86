"""Task balancing: per-task gradients, their kernels, and the weights made of them.

Torch only: nothing here knows about reinforcement learning.
"""

from mtrl_ntk.balancing.balancer import BalancedStep, Balancer
from mtrl_ntk.balancing.jacobian import (
    Jacobian,
    empty_rows,
    factored_jacobian,
    sequential_jacobian,
)
from mtrl_ntk.balancing.tape import Tape, apply_layer
from mtrl_ntk.balancing.weighting import Weighting

__all__ = [
    "BalancedStep",
    "Balancer",
    "Jacobian",
    "Tape",
    "Weighting",
    "apply_layer",
    "empty_rows",
    "factored_jacobian",
    "sequential_jacobian",
]
