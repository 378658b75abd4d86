"""Task balancing: per-task gradients, their kernels, and the weights made of them.

Torch only: nothing here knows about reinforcement learning.
"""

from mtrl_ntk.balancing.alone import aggregate, weights_of_gramian, weights_of_rows
from mtrl_ntk.balancing.balancer import Balancer
from mtrl_ntk.balancing.factors import register_layer
from mtrl_ntk.balancing.jacobian import (
    Jacobian,
    Request,
    Workspace,
    factored_jacobian,
    sequential_jacobian,
)
from mtrl_ntk.balancing.recording import Recording, record
from mtrl_ntk.balancing.tape import Tape, apply_layer
from mtrl_ntk.balancing.task_balancer import TaskBalancer
from mtrl_ntk.balancing.weighing import BalancedStep
from mtrl_ntk.balancing.weighting import Weighting

__all__ = [
    "BalancedStep",
    "Balancer",
    "Jacobian",
    "Recording",
    "Request",
    "Tape",
    "TaskBalancer",
    "Weighting",
    "Workspace",
    "aggregate",
    "apply_layer",
    "factored_jacobian",
    "record",
    "register_layer",
    "sequential_jacobian",
    "weights_of_gramian",
    "weights_of_rows",
]
