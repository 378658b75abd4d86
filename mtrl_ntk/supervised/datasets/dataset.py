"""What a data set is."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from mtrl_ntk.settings import Settings
from mtrl_ntk.supervised.tasks import Task

Inputs = Tensor | Mapping[str, Tensor]
"""What a network is given: images ``[rows, channels, height, width]``, or parts by name."""


@dataclass(frozen=True)
class Examples:
    """A batch: one input for all tasks, and a target of each."""

    inputs: Inputs
    """What networks are given."""
    targets: dict[str, Tensor]
    """Targets by task, ``[rows, ...]``."""

    def __len__(self) -> int:
        return len(next(iter(self.targets.values())))

    def to(self, device: torch.device) -> Examples:
        """The same on a device, in the layout in which networks are fastest there."""
        parts = self.inputs
        inputs = _laid_out(parts.to(device)) if isinstance(parts, Tensor) else _moved(parts, device)
        return Examples(inputs, _moved(self.targets, device))


class Dataset(ABC):
    """Base of all data sets.

    A subclass says what stands under its attributes, opens what it needs when it is made, and
    reads examples when they are asked for.

    Args:
        config: Its settings, a ``config_class``.

    Raises:
        ConfigError: Something that it needs is missing; says what, and where to get it.

    Attributes:
        tasks: Its tasks, in the order of ``task_names``.
        inputs: Sizes of an input: channels, height and width of images.
    """

    name: ClassVar[str]
    """What the command line calls it."""
    title: ClassVar[str]
    """What it is, in a few words."""
    config_class: ClassVar[type[Settings]]
    """Its settings."""
    task_names: ClassVar[tuple[str, ...]]
    """Its tasks, which are known before it is opened."""
    networks: ClassVar[tuple[str, ...]]
    """Names of the kinds of networks that fit; the first is meant where none is named."""
    splits: ClassVar[tuple[str, ...]] = ("train", "test")
    """Parts of the data: the first is learnt from, the last is what results are measured on."""

    tasks: tuple[Task, ...]
    inputs: tuple[int, ...]

    @abstractmethod
    def __init__(self, config: Any) -> None:  # noqa: ANN401 - its own
        ...

    @property
    def fingerprint(self) -> str:
        """A digest of all sizes and of the ends of all splits: other data have another."""
        digest = hashlib.sha256()
        for split in self.splits:
            size = self.size(split)
            digest.update(f"{split} {size}".encode())
            if not size:  # as that to choose by may be
                continue
            examples = self.batch(split, [0, size - 1])
            parts = examples.inputs
            inputs = {"": parts} if isinstance(parts, Tensor) else parts
            for name, part in (*inputs.items(), *examples.targets.items()):
                digest.update(f"{name} {part.dtype} {list(part.shape)}".encode())
                digest.update(part.contiguous().numpy().tobytes())
        return digest.hexdigest()[:12]

    @abstractmethod
    def size(self, split: str) -> int:
        """Examples of a split."""

    @abstractmethod
    def batch(
        self, split: str, indices: Sequence[int], generator: torch.Generator | None = None
    ) -> Examples:
        """Some examples of a split, in the order asked for.

        Args:
            split: One of ``splits``.
            indices: Which, from 0 to one below the size.
            generator: What random changes of the examples are drawn from, where the data set has
                any; left out, the examples are as they are.
        """


def _laid_out(images: Tensor) -> Tensor:
    """Images with their channels innermost on a CPU: convolutions take their layout from there."""
    if images.device.type == "cpu" and images.ndim == 4:
        return images.contiguous(memory_format=torch.channels_last)
    return images


def _moved(parts: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    return {name: part.to(device) for name, part in parts.items()}
