"""Signals that ask a run to stop."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

_NAMES = ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP")
_SAME_REQUEST_S = 0.3


class StopRequest:
    """Takes the first SIGINT, SIGTERM, SIGUSR1 or SIGHUP for a request; a second ends the process.

    A context manager. A SIGHUP that is ignored, as under ``nohup``, goes on being ignored. Where
    signals cannot be handled, outside of the main thread, there never is a request.

    Args:
        at_the_end: Called before a second signal ends the process.

    Attributes:
        received: The signal that asked; None as long as none did.
    """

    def __init__(self, at_the_end: Callable[[], object] | None = None) -> None:
        self._at_the_end = at_the_end
        self.received: signal.Signals | None = None
        self._received_at = 0.0
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopRequest:
        """Begins to listen."""
        if threading.current_thread() is threading.main_thread():
            # Windows has no SIGUSR1.
            known = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]
            self._before = {
                number: signal.signal(number, self._receive)
                for number in known
                if number.name != "SIGHUP" or signal.getsignal(number) is not signal.SIG_IGN
            }
        return self

    def __exit__(self, *_: object) -> None:
        """Leaves the signals to those who had them before."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _receive(self, number: int, _: FrameType | None) -> None:
        now = time.monotonic()
        if self.received is None:
            self.received, self._received_at = signal.Signals(number), now
        # `timeout` and schedulers signal the process and then its group: one request, twice.
        elif now - self._received_at > _SAME_REQUEST_S:
            if self._at_the_end is not None:
                self._at_the_end()
            os._exit(128 + number)
