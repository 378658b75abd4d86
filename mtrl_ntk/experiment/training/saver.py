"""Saving a run, and trying again where that fails."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mtrl_ntk.experiment.checkpoints.archive import Archive
from mtrl_ntk.experiment.checkpoints.nested_state import split
from mtrl_ntk.experiment.checkpoints.run_state import describe
from mtrl_ntk.experiment.files.outages import Outages

if TYPE_CHECKING:
    from mtrl_ntk.experiment.training.loop import Run


class Saver:
    """Saves the checkpoints of a run; a save that fails leaves the earlier ones as they are.

    Args:
        archive: Where checkpoints are kept.
        outages: What cannot be written at present.

    Attributes:
        saved_at: Vector steps at the last save that worked; below zero before the first.
    """

    def __init__(self, archive: Archive, outages: Outages) -> None:
        self.saved_at = -1
        self._archive, self._outages = archive, outages
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

    def save(self, run: Run, state: dict[str, Any], *, finished: bool = False) -> bool:
        """Saves a state of the run's present step; returns whether that worked."""
        training, values = split(state)
        metadata = describe(run, values, finished=finished)

        def write() -> None:
            self._archive.save(run.step, run.agent.state_dict(), metadata, training, run.replay)

        if saved := self._outages.attempt(self._what, write, self._meanwhile):
            self.saved_at = run.step
        return saved

    @property
    def _meanwhile(self) -> str:
        return f"training goes on, {self.newest}, and every row of the log tries again"
