"""The one exception for wrong input, and what is said where memory does not suffice."""


class InputError(ValueError):
    """Input that cannot be used: says what was given, what was expected and how to mend it.

    The command line prints its message as one line and ends with status 2.
    """


def lack_of_memory(kind, text):
    """Return a line about an exception that means a lack of memory, None for any other.

    It is known by its name and text, as each library has its own, and notebooks tell no more.
    """
    words = ("RESOURCE_EXHAUSTED", "can't allocate memory")  # JAX's and torch's
    kinds = ("MemoryError", "ResourceExhaustedError", "OutOfMemoryError")
    if kind not in kinds and not any(word in text for word in words):
        return None
    detail = f" ({text})" if kind == "MemoryError" and text else ""
    return f"memory does not suffice{detail}; try smaller tiles, patches or batches"
