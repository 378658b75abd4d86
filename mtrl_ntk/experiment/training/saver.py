"""Saving a run, and trying again where that fails."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mtrl_ntk.experiment.checkpoints.archive import Archive
from mtrl_ntk.experiment.checkpoints.run_state import RunState
from mtrl_ntk.experiment.files.outages import Outages
from mtrl_ntk.experiment.training.clock import RunClock


class Saver:
    """Saves the checkpoints of a run; a save that fails leaves the earlier ones as they are.

    Args:
        archive: Where checkpoints are kept.
        state: What is saved.
        clock: How far the run is.
        outages: What cannot be written at present.

    Attributes:
        saved_at: Vector steps at the last save that worked; below zero before the first.
    """

    def __init__(
        self, archive: Archive, state: RunState[Any], clock: RunClock, outages: Outages
    ) -> None:
        self.saved_at = -1
        self._archive, self._state, self._clock, self._outages = archive, state, clock, outages
        self._what = f"a checkpoint into {archive.folder}"

    @property
    def failure(self) -> str | None:
        """Why the last save failed; None if it did not."""
        return self._outages.reasons.get(self._what)

    @property
    def newest(self) -> str:
        """What the last save that worked has saved, in words."""
        if self.saved_at < 0:
            return "there is no checkpoint yet"
        return f"the newest checkpoint is of step {self.saved_at}"

    def save(
        self, state: Mapping[str, Any] | None = None, *, finished: bool = False
    ) -> Path | None:
        """Saves the run's present step; returns the checkpoint's folder, None if that failed.

        Args:
            state: The state of that step, as captured; by default the present one.
            finished: Whether the run has come to its end.
        """
        step = self._clock.step
        snapshot = self._state.snapshot(state, finished=finished)
        saved: list[Path] = []

        def write() -> None:
            saved.append(self._archive.save(step, *snapshot, self._state.replay))

        if not self._outages.attempt(self._what, write, self._meanwhile):
            return None
        self.saved_at = step
        return saved[0]

    def remove_after(self, step: int) -> list[Path]:
        """Removes the checkpoints of later steps; returns what they were."""
        return self._archive.remove_after(step)

    def drop_replay(self) -> None:
        """Removes the transitions of all checkpoints."""
        self._archive.drop_replay()

    @property
    def _meanwhile(self) -> str:
        return f"training goes on, {self.newest}, and every row of the log tries again"
