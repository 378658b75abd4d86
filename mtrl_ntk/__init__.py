"""Multi-task Soft Actor-Critic on Meta-World, balanced by neural tangent kernels."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING

from mtrl_ntk.version import __version__

if TYPE_CHECKING:
    from mtrl_ntk.policy import Policy, export_policy, load_policy

__all__ = ["Policy", "__version__", "export_policy", "load_policy"]


if "gymnasium" in sys.modules:  # which takes its time, too
    importlib.import_module("mtrl_ntk.registration")


def __getattr__(name: str) -> object:
    """Imports what is asked for only then, since PyTorch takes its time."""
    if name in __all__:
        return getattr(importlib.import_module("mtrl_ntk.policy"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
