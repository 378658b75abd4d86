"""What a network is: a trunk that all tasks share, and a head for each."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from mtrl_ntk.errors import ConfigError
from mtrl_ntk.settings import Settings
from mtrl_ntk.supervised.datasets.dataset import Inputs
from mtrl_ntk.supervised.tasks import Task


class Network(nn.Module, ABC):
    """Base of all networks.

    With one task it is that task's network alone, of the same size.

    Args:
        config: Its settings, a ``config_class``.
        inputs: Sizes of an input, as its data set states them.
        tasks: The tasks that it has heads for.

    Raises:
        ConfigError: Inputs are too small for it.

    Attributes:
        trunk: What all tasks share; what it returns is the representation that heads read.
        heads: What each task has of its own, by its name.
    """

    name: ClassVar[str]
    """What the command line calls it."""
    config_class: ClassVar[type[Settings]]
    """Its settings."""
    fewest_rows: ClassVar[int] = 1
    """Examples that it can learn from at once."""
    shortest_side: ClassVar[int] = 1
    """Pixels that images must have in both directions."""

    def __init__(self, config: Settings, inputs: tuple[int, ...], tasks: Sequence[Task]) -> None:
        super().__init__()
        least = self.shortest_side
        if min(inputs[1:]) < least:
            raise ConfigError(
                f"images are {' by '.join(map(str, inputs[1:]))} pixels large; {self.name} needs "
                f"{least} by {least} at least"
            )
        self.trunk = self.make_trunk(config, inputs)
        self.heads = nn.ModuleDict({task.name: self.make_head(config, task) for task in tasks})

    @abstractmethod
    def make_trunk(self, config: Any, inputs: tuple[int, ...]) -> nn.Module:  # noqa: ANN401 - its own
        """The trunk."""

    @abstractmethod
    def make_head(self, config: Any, task: Task) -> nn.Module:  # noqa: ANN401 - its own
        """The head of a task."""

    def forward(self, inputs: Inputs) -> dict[str, Tensor]:
        """The output of each task, by its name."""
        features = self.trunk(inputs)
        return {name: head(features) for name, head in self.heads.items()}
