"""The errors that a command shows without a traceback."""


class UserError(Exception):
    """A mistake of the user: shown as one line, exit code 2."""


class ConfigError(UserError, ValueError):
    """An option, or a config file, that cannot be used as given."""
