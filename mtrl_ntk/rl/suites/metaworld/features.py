"""Features of Meta-World's observations: centred, relative, and magnified where tools touch.

An observation is hand, gripper, two objects with their orientations, the same one step before, and
the goal, in metres. What decides about success are differences of millimetres between these, which
a network that sees metres beside a one-hot task id learns to tell apart very late.
"""

from __future__ import annotations

from itertools import accumulate, pairwise
from typing import NamedTuple

from mtrl_ntk.rl.suites.features import Rows, Term, entries, feature_map, shifted

_DIM = 39
_CENTRE = (0.0, 0.6, 0.2)
"""Of the work space, in metres."""
_TOOL = (0.0, 0.0, -0.045)
"""From the hand to the point between its fingers, constant to 2.5 mm."""
_FROM_CENTRE = [-place for place in _CENTRE]


class _Frame(NamedTuple):
    """Where things are at one step, as entries of an observation."""

    hand: Rows
    grip: Rows
    thing: Rows
    orientation: Rows
    other: Rows
    other_orientation: Rows

    @property
    def places(self) -> list[Term]:
        """All of it, from the centre and in units that networks tell apart."""
        return [
            Term(shifted(self.hand, _FROM_CENTRE), 5),
            Term(shifted(self.grip, [-0.5]), 2),
            Term(shifted(self.thing, _FROM_CENTRE), 5),
            Term(self.orientation, 1),
            Term(self.other, 2),  # zero where there is no other thing
            Term(self.other_orientation, 1),
        ]


def _frame(begin: int) -> _Frame:
    """The frame that begins at an entry."""
    bounds = accumulate((3, 1, 3, 4, 3, 4), initial=begin)
    return _Frame(*(entries(_DIM, *bound) for bound in pairwise(bounds)))


_NOW, _BEFORE = _frame(0), _frame(18)
_GOAL = entries(_DIM, 36, 39)
_TO_TOOL = shifted(_NOW.thing - _NOW.hand, [-offset for offset in _TOOL])
_GOAL_TO_TOOL = shifted(_GOAL - _NOW.hand, [-offset for offset in _TOOL])

_PLACES = [*_NOW.places, Term(shifted(_GOAL, _FROM_CENTRE), 5)]
_DIFFERENCES = [
    Term(_NOW.thing - _NOW.hand, 10),
    Term(_GOAL - _NOW.thing, 5),
    Term(_GOAL - _NOW.hand, 5),
    Term(_NOW.hand - _BEFORE.hand, 100),
    Term(_NOW.grip - _BEFORE.grip, 20),
    Term(_NOW.thing - _BEFORE.thing, 100),
]
_MAGNIFIED = [
    Term(_TO_TOOL, 40),
    Term(_TO_TOOL, 10),
    Term(_GOAL - _NOW.thing, 20),
    Term(_GOAL_TO_TOOL, 20),
]

CENTRED = feature_map([*_PLACES, *_BEFORE.places])
"""The observation from the centre of the work space and in larger units, and nothing else."""
UNMAGNIFIED = feature_map([*_PLACES, *_DIFFERENCES])
"""Places, and in place of those one step before, differences in space and time."""
RELATIVE = feature_map([*_PLACES, *_DIFFERENCES], squashed=_MAGNIFIED)
"""The same, and the differences to tool and goal magnified near zero."""
