"""What cannot be written for a while: said once, tolerated, tried again."""

from __future__ import annotations

import warnings
from collections.abc import Callable


class OutageWarning(UserWarning):
    """Something cannot be written, or can again."""


class Outages:
    """Lets a run go on where a disk is full, read-only or gone, and says so once for each outage.

    Attributes:
        reasons: Why each thing that cannot be written at present cannot.
    """

    def __init__(self) -> None:
        self.reasons: dict[str, str] = {}

    def attempt(self, what: str, write: Callable[[], object], meanwhile: str) -> bool:
        """Tries to write something; returns whether that worked.

        Args:
            what: What people know it by.
            write: Writes it, or raises an ``OSError``.
            meanwhile: What happens if it does not work.
        """
        try:
            write()
        except OSError as error:
            reason = error.strerror or str(error)
            if what not in self.reasons:
                _say(f"cannot write {what}: {reason}; {meanwhile}")
            self.reasons[what] = reason
            return False
        if self.reasons.pop(what, None):
            _say(f"{what} can be written again")
        return True


def _say(text: str) -> None:
    warnings.warn(text, OutageWarning, stacklevel=3)
