"""What the tests of agents share."""

from __future__ import annotations

from typing import Any

from mtrl_ntk.balancing import Weighting
from mtrl_ntk.balancing.methods import METHODS
from mtrl_ntk.rl import sac
from mtrl_ntk.rl.networks import NETWORK_KINDS, why_not
from mtrl_ntk.rl.sac import Part

TASKS = 3
COMBINATIONS: list[tuple[str, str]] = [
    (method, network)
    for method in METHODS
    for network in NETWORK_KINDS
    if why_not(METHODS[method], network) is None
]
"""Every method with every network that it can balance."""
FEW = [("ntkmtl", "shared"), ("famo", "multi_head"), ("equal", "independent")]
"""One of each kind of statistic, with a network of each class of sharing."""


def _statistic(method: str) -> type[Weighting]:
    """What a method draws from gradients, by the base class that says so."""
    bases = (base for base in METHODS[method].__mro__ if base.__module__ == Weighting.__module__)
    return next(bases)


def _networks(method: str) -> list[str]:
    return [network for name, network in COMBINATIONS if name == method]


STATISTICS = [*{_statistic(method): method for method in reversed(METHODS)}.values()]
"""One method of each statistic."""
COVERING = [
    (method, network)
    for place, method in enumerate(METHODS)
    for index, network in enumerate(_networks(method))
    if method in STATISTICS or index == place % len(_networks(method)) or (method, network) in FEW
]
"""Every method with one of the networks, in turn, and each statistic with every network."""
OPTIONS: dict[str, dict[str, Any]] = {
    "categorical": {"critic": "categorical", "critic_bins": 11, "twin": "mean"},
    "decay": {
        "learning_rate_end": 0.1,
        "learning_rate_schedule": "cosine",
        "target_entropy_end": 0.5,
    },
    "residual": {"actor_blocks": "residual", "critic_blocks": "residual"},
}
"""Settings of an agent that make it another one, with every method and network."""


def make_weighting(
    method: str, part: Part, num_parameters: int, num_tasks: int = TASKS
) -> Weighting:
    """A method that is balanced, as an agent's parts ask for it."""
    return sac.make_weighting(METHODS[method], None, num_tasks, part, num_parameters)
