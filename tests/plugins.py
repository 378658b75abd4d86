"""Balancing methods that are not of the package: files that bring one, and their packages."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mtrl_ntk.balancing.methods import METHODS
from mtrl_ntk.experiment import plugins

SOURCE = '''
from __future__ import annotations

from dataclasses import dataclass

import torch

from mtrl_ntk.balancing.methods import METHODS
from mtrl_ntk.balancing.weighting import LossWeighting
from mtrl_ntk.settings import Settings, number


@dataclass(frozen=True)
class DimmedConfig(Settings):
    """Hyper-parameters."""

    brightness: float = number(0.5, above=0)
    """Weight of every task."""


class Dimmed(LossWeighting):
    """The same weight for all, and a buffer that checkpoints keep."""

    config_class = DimmedConfig
    config: DimmedConfig

    def __init__(self, num_tasks: int, config=None, num_parameters: int = 0) -> None:
        super().__init__(num_tasks, config, num_parameters)
        self.register_buffer("steps", torch.zeros(()))

    def forward(self, task_losses):
        self.steps += 1
        return torch.full_like(task_losses, self.config.brightness)
'''
"""A method in a module, which does not register it."""
REGISTERED = f'{SOURCE}\n\nMETHODS["dimmed"] = Dimmed\n'
"""One that does."""
OPENED = "import pathlib\npathlib.Path(__file__ + '.opened').touch()\n"
"""Leaves a trace of being imported."""


@contextmanager
def other_methods() -> Iterator[None]:
    """Forgets at its end what methods and modules were added."""
    methods, modules = dict(METHODS), {*sys.modules}
    try:
        yield
    finally:
        METHODS.clear()
        METHODS.update(methods)
        for name in {*sys.modules} - modules:
            if name.startswith("plugin_") or name in _PACKAGES:
                del sys.modules[name]
        plugins._load.cache_clear()


_PACKAGES = ("bright", "dimmer")


def write_package(folder: Path, source: str, entry: str, package: str = "bright") -> None:
    """A module as it is installed, with the entry points of its package."""
    folder.mkdir(exist_ok=True)
    (folder / f"{package}.py").write_text(source)
    about = folder / f"{package}-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[{plugins.GROUP}]\n{entry}\n")
