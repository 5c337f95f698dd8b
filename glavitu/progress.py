"""Progress bars for a terminal, a notebook and a log file, and lines beside them."""

import os
import re
import sys

AS_LINES = "GLAVITU_PROGRESS_AS_LINES"  # in the environment of notebooks run by a study
_BAR = re.compile(r".*: +\d+%\|.*\| \d+/\d+ \[.*\]\s*")


def say(text):
    """Print a line between the drawings of a bar."""
    if sys.stderr.isatty():
        from tqdm import tqdm  # here, as the command line's help needs none

        tqdm.write(text)
    else:
        print(text, flush=True)


def counted(number, noun):
    """Return a number of things in words.

    Examples
    --------
    >>> counted(1, "tile"), counted(2, "tile")
    ('1 tile', '2 tiles')
    """
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def without_bars(text):
    """Return what a log says beside the drawings of bars."""
    return "".join(line for line in text.splitlines(keepends=True) if not _BAR.fullmatch(line))


class _Lines:
    """Stderr, where each drawing of a bar is a line of its own."""

    def write(self, text):
        """Write what is more than blanks."""
        if text := text.strip():
            print(text, file=sys.stderr, flush=True)

    def flush(self):
        """Do nothing: lines are flushed."""


class _Output:
    """One output of a notebook's cell, which each drawing of a bar replaces."""

    encoding = "utf-8"  # so that bars are drawn smoothly

    def __init__(self):
        self.handle = None

    def write(self, text):
        """Show the bar; a bar that is done leaves an empty output."""
        from IPython.display import display

        text = {"text/plain": text.strip()}
        if self.handle:
            self.handle.update(text, raw=True)
        elif text["text/plain"]:
            self.handle = display(text, raw=True, display_id=True)

    def flush(self):
        """Do nothing: outputs are shown at once."""


def progress(iterable=None, *, description, total=None, initial=0, unit="tile"):
    """Wrap an iterable in a bar: on stderr, drawn rarely where nobody watches, or in a cell."""
    from tqdm import tqdm

    # After `maxinterval` seconds a bar is drawn again, moved or not.
    if sys.stderr.isatty():
        how = {"mininterval": 0.1, "maxinterval": 10, "delay": 1, "dynamic_ncols": True}
    elif _in_notebook():
        how = {"mininterval": 0.5, "maxinterval": 10, "delay": 1, "file": _Output(), "leave": False}
    else:
        how = {"mininterval": 30, "maxinterval": 60, "delay": 5, "file": _Lines(), "leave": False}
    return tqdm(iterable, desc=description, total=total, initial=initial, unit=unit, **how)


def _in_notebook():
    """Tell whether this is the kernel of a notebook that somebody works in."""
    ipython = sys.modules.get("IPython")
    shell = ipython and ipython.get_ipython()
    return hasattr(shell, "kernel") and AS_LINES not in os.environ
