"""How commands run: wrong input, interrupts and a lack of memory end them with one line."""

import os
import sys
import warnings

import click

from glavitu.errors import InputError, lack_of_memory
from glavitu.files import FULL
from glavitu.interrupts import insistent

LONGEST = 1000  # characters of an error


def run(command, *, interrupted="interrupted"):
    """Run a click command: wrong input gives one line and status 2, an interrupt 130."""
    with insistent() as interrupts:
        try:
            with warnings.catch_warnings():
                # what NaN leads to is said in words
                warnings.simplefilter("ignore", RuntimeWarning)
                status = command.main(standalone_mode=False)
            sys.exit(status)
        except (Exception, KeyboardInterrupt) as error:
            if interrupts or isinstance(error, click.Abort | KeyboardInterrupt):
                _stop(interrupted, 130)
            _stop(*_explain(error))


def _explain(error):
    """Return a line and a status for what a user can mend; raise what they cannot."""
    if isinstance(error, InputError):
        return str(error), 2
    if isinstance(error, click.ClickException):
        return error.format_message(), error.exit_code
    if isinstance(error, OSError):
        advice = "; make room, then the same command goes on from here" * (error.errno in FULL)
        return f"{error.filename or 'file'}: {error.strerror or error}{advice}", 2
    kind = "MemoryError" if isinstance(error, MemoryError) else type(error).__name__
    if line := lack_of_memory(kind, str(error)):
        return line, 1
    if isinstance(error, ValueError) and str(error).startswith("Key backend: "):
        return f"matplotlib does not load, MPLBACKEND={os.environ.get('MPLBACKEND')}: {error}", 2
    if type(error).__name__ == "StudyError":
        return str(error), 1
    raise error


def _stop(message, status):
    line = " ".join("".join(c if c.isprintable() else " " for c in message).split())
    click.echo(f"error: {line if len(line) <= LONGEST else line[:LONGEST] + '…'}", err=True)
    sys.exit(status)
