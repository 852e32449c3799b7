"""What can go wrong, by exit status."""


class InputError(ValueError):
    """The config or the data is wrong; nothing was started. Exit status 2.

    The message names the file and line where there are some, the value, the rule and the remedy.
    """


class StageError(RuntimeError):
    """A stage failed after it had started. Exit status 1."""
