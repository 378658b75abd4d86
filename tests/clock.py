"""A clock for what is named by the time."""

from __future__ import annotations

from datetime import datetime, tzinfo


class Standstill(datetime):
    """Shows the same second to all."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Standstill:
        """Five seconds past 3:04 on January 2, 2026."""
        return cls(2026, 1, 2, 3, 4, 5, tzinfo=tz)
