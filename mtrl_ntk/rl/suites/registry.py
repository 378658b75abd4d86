"""The suites that there are; another one is a file of its own and an entry here."""

from mtrl_ntk.rl.suites.metaworld.suite import METAWORLD

SUITES = {suite.name: suite for suite in (METAWORLD,)}
"""All suites by name."""
DEFAULT_SUITE = METAWORLD
"""The suite that is meant where none is named."""
