"""The one exception for wrong input, and what is said where memory does not suffice."""


class InputError(ValueError):
    """Input that cannot be used: says what was given, what was expected and how to mend it.

    The command line prints its message as one line and ends with status 2.
    """


# The names of Python's, TensorFlow's and torch's own.
OUT_OF_MEMORY = ("MemoryError", "ResourceExhaustedError", "OutOfMemoryError")
MORE_MEMORY = "memory does not suffice; try smaller tiles, patches or batches"
