"""Progress bars that also read well in a notebook or a log file."""

import sys

from tqdm import tqdm


def say(text):
    """Print a line between the drawings of a bar."""
    if sys.stderr.isatty():
        tqdm.write(text)
    else:
        print(text, flush=True)


class _Lines:
    """Stderr, where each drawing of a bar is a line of its own."""

    def write(self, text):
        """Write what is more than blanks."""
        if text := text.strip():
            print(text, file=sys.stderr, flush=True)

    def flush(self):
        """Do nothing: lines are flushed."""


def progress(iterable=None, *, description, total=None, initial=0, unit="tile"):
    """Wrap an iterable in a bar on stderr, drawn rarely where that is no terminal."""
    live = sys.stderr.isatty()
    return tqdm(
        iterable,
        desc=description,
        total=total,
        initial=initial,
        unit=unit,
        mininterval=0.1 if live else 30,
        maxinterval=10 if live else 60,  # after which it is drawn again, moved or not
        delay=1 if live else 5,
        leave=live,
        file=None if live else _Lines(),
        dynamic_ncols=live,
    )
