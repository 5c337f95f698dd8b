"""What the machine has, as far as this process may use it."""

import os


def cores():
    """Return the number of processor cores."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
