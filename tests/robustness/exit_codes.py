"""Commands, with the streams and the exit codes that a shell would see."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from mtrl_ntk.experiment.training import costs


def code_of(command: Callable[[], None], *argv: str, out: object, err: object) -> object:
    """The exit code of a command with such streams."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [command.__name__, *argv])
        patch.setattr(sys, "stdout", out)
        patch.setattr(sys, "stderr", err)
        patch.setattr(costs, "_TIMED_S", 0.0)
        try:
            command()
        except SystemExit as stop:
            return stop.code or 0
    return 0
