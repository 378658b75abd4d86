"""One model of MuJoCo for all environments of a task in a process.

A model is 21 MB, most of it pictures and shapes. All that episodes change in it are positions of
bodies and sites, a few kilobytes, which each environment keeps for itself while another one has the
model.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable
from weakref import WeakValueDictionary

import mujoco

Load = Callable[[], mujoco.MjModel]


class SharedModel:
    """A model that environments of one thread take turns with.

    Args:
        model: The model, as loaded.
    """

    def __init__(self, model: mujoco.MjModel) -> None:
        self._model = model
        # Views of the model's memory.
        self._places = model.body_pos, model.site_pos
        self.loaded = tuple(place.copy() for place in self._places)
        self._holder: Loan | None = None

    def held_by(self, loan: Loan) -> mujoco.MjModel:
        """The model, with the positions of the loan from now on."""
        if self._holder is not loan:
            if self._holder is not None:
                for place, kept in zip(self._places, self._holder.positions, strict=True):
                    kept[:] = place
            for place, kept in zip(self._places, loan.positions, strict=True):
                place[:] = kept
            self._holder = loan
        return self._model


class Loan:
    """What an environment has of a shared model.

    Args:
        shared: The shared model.

    Attributes:
        positions: Of bodies and sites, while another loan has the model.
    """

    def __init__(self, shared: SharedModel) -> None:
        self._shared = shared
        self.positions = tuple(place.copy() for place in shared.loaded)

    @property
    def model(self) -> mujoco.MjModel:
        """The model, to be used before another loan's is."""
        return self._shared.held_by(self)


_in_use: WeakValueDictionary[Hashable, SharedModel] = WeakValueDictionary()
_latest: deque[SharedModel] = deque(maxlen=1)
"""Kept: an environment that only drew goals is gone when the next one of its task is made."""


def borrow(key: Hashable, load: Load) -> Loan:
    """A loan of the model of this key, which is loaded if nobody has it."""
    shared = _in_use.get(key)
    if shared is None:
        shared = _in_use[key] = SharedModel(load())
        _latest.append(shared)
    return Loan(shared)
