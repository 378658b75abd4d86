"""What a Python program is told of a supervised run while it goes on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mtrl_ntk.experiment.training.callbacks import CallbackOf
from mtrl_ntk.supervised.config import SupervisedConfig
from mtrl_ntk.supervised.scores import Counters, Scores
from mtrl_ntk.supervised.training.learner import Learner
from mtrl_ntk.supervised.training.trainer import EpochClock


@dataclass(frozen=True)
class SupervisedView:
    """A supervised run as its callbacks see it."""

    config: SupervisedConfig
    """Its configuration."""
    run_dir: Path
    """Its folder."""
    learner: Learner
    """Its network, and what learns."""
    clock: EpochClock
    """Counts its updates."""

    @property
    def counters(self) -> Counters:
        """How far it is."""
        return self.clock.counters


class SupervisedCallback(CallbackOf[SupervisedView, Scores]):
    """Is told what happens in a supervised run; a step is an update."""
