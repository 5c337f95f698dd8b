"""The one exception for wrong input."""


class InputError(ValueError):
    """Input that cannot be used: says what was given, what was expected and how to mend it.

    The command line prints its message as one line and ends with status 2.
    """
