"""The suites that there are: the package's, each a file and an entry here, and those of users."""

from mtrl_ntk.errors import ConfigError
from mtrl_ntk.rl.suites.metaworld.suite import METAWORLD
from mtrl_ntk.rl.suites.own.suite import Origin, suite_of, suite_of_name
from mtrl_ntk.rl.suites.suite import Suite

SUITES = {suite.name: suite for suite in (METAWORLD,)}
"""All suites by name."""
DEFAULT_SUITE = METAWORLD
"""The suite that is meant where none is named."""


def load_suite(reference: str) -> Suite:
    """The suite that a user names: one of ``SUITES``, or one to be imported, which is then there.

    Raises:
        ConfigError: If it cannot be used.
    """
    if reference in SUITES:
        return SUITES[reference]
    if ":" not in reference:
        raise ConfigError(
            f"unknown suite {reference!r}; it must be {', '.join(SUITES)}, or your own tasks, as "
            "module:function or file.py:function"
        )
    return add_suite(suite_of_name(reference))


def add_tasks(origin: Origin, name: str | None = None) -> Suite:
    """Makes a suite of tasks that a program has at hand; it is then in ``SUITES``.

    Args:
        origin: The tasks, or a function that returns them.
        name: What to call the suite; by default the name of their function.

    Raises:
        ConfigError: If they cannot be used.
    """
    return add_suite(suite_of(origin, name))


def add_suite(suite: Suite) -> Suite:
    """Puts a suite into ``SUITES``, where it may replace one of a user's."""
    if suite.name in SUITES and not SUITES[suite.name].source:
        raise ConfigError(f"the name {suite.name} is that of a suite of this package")
    SUITES[suite.name] = suite
    return suite


def find_suite(name: str) -> Suite:
    """The suite of a name.

    Raises:
        ConfigError: If it is not there; what a file names is never imported.
    """
    if name not in SUITES:
        raise ConfigError(
            f"suite {name} is your own, which is imported only if the command line says so: "
            f"--suite {name}"
        )
    return SUITES[name]
