"""What a command shows without a traceback."""


class UserError(Exception):
    """A mistake of the user: shown as one line, exit code 2."""


class ConfigError(UserError, ValueError):
    """An option, or a config file, that cannot be used as given."""


class RunFailed(Exception):
    """A run has come to an end that is not its own or could not be kept: one line, exit code 1."""


class Interrupted(Exception):
    """A signal has stopped a run, and the run was saved: shown as one line.

    Args:
        message: What to say.
        signal_number: The signal.

    Attributes:
        exit_code: What a shell reports of a process that the signal ended.
    """

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number
