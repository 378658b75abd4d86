"""Features of Meta-World's observations: centred, relative, and magnified where tools touch.

An observation is hand, gripper, two objects with their orientations, the same one step before, and
the goal, in metres. What decides about success are differences of millimetres between these, which
a network that sees metres beside a one-hot task id learns to tell apart very late.
"""

from __future__ import annotations

from mtrl_ntk.rl.suites.features import Term, entries, feature_map, shifted

_DIM = 39
_CENTRE = (0.0, 0.6, 0.2)
"""Of the work space, in metres."""
_TOOL = (0.0, 0.0, -0.045)
"""From the hand to the point between its fingers, constant to 2.5 mm."""

_HAND, _GRIP = entries(_DIM, 0, 3), entries(_DIM, 3)
_OBJECT, _ORIENTATION = entries(_DIM, 4, 7), entries(_DIM, 7, 11)
_OTHER, _OTHER_ORIENTATION = entries(_DIM, 11, 14), entries(_DIM, 14, 18)
_HAND_BEFORE, _GRIP_BEFORE, _OBJECT_BEFORE = (
    entries(_DIM, 18, 21),
    entries(_DIM, 21),
    entries(_DIM, 22, 25),
)
_GOAL = entries(_DIM, 36, 39)
_TO_TOOL = shifted(_OBJECT - _HAND, [-offset for offset in _TOOL])
_GOAL_TO_TOOL = shifted(_GOAL - _HAND, [-offset for offset in _TOOL])
_FROM_CENTRE = [-place for place in _CENTRE]

RELATIVE = feature_map(
    linear=[
        Term(shifted(_HAND, _FROM_CENTRE), 5),
        Term(shifted(_GRIP, [-0.5]), 2),
        Term(shifted(_OBJECT, _FROM_CENTRE), 5),
        Term(_ORIENTATION, 1),
        Term(_OTHER, 2),
        Term(_OTHER_ORIENTATION, 1),
        Term(shifted(_GOAL, _FROM_CENTRE), 5),
        Term(_OBJECT - _HAND, 10),
        Term(_GOAL - _OBJECT, 5),
        Term(_GOAL - _HAND, 5),
        Term(_HAND - _HAND_BEFORE, 100),
        Term(_GRIP - _GRIP_BEFORE, 20),
        Term(_OBJECT - _OBJECT_BEFORE, 100),
    ],
    squashed=[
        Term(_TO_TOOL, 40),
        Term(_TO_TOOL, 10),
        Term(_GOAL - _OBJECT, 20),
        Term(_GOAL_TO_TOOL, 20),
    ],
)
"""Positions from the centre, differences, velocities; differences to tool and goal magnified."""
