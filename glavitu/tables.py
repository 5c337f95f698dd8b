"""Tables of what to read: comma-separated values, with paths from the table's folder."""

import re
from io import StringIO

import pandas as pd

from glavitu.errors import InputError
from glavitu.files import read_text

MAX_BYTES = 1 << 28  # of a table


def read_table(csv, columns, expected):
    """Read a table as texts without blanks around them, and check that it has `columns`.

    The first of `columns` names the rows: each has a name of its own that can name a file.
    """
    table = _read_cells(csv)
    missing = [column for column in columns if column not in table]
    if missing:
        for other in (";", "\t"):
            if len(table.columns) == 1 and other in table.columns[0]:
                raise InputError(f"{csv} is separated by {other!r}; expected commas")
        raise InputError(
            f"{csv} has no column {missing[0]!r}; expected {expected}; found {', '.join(table)}"
        )
    key, names = columns[0], table[columns[0]]
    if (names == "").any():
        raise InputError(f"{csv}: row {int((names == '').argmax()) + 1} lacks {key!r}")
    kind = "name" if key == "name" else f"{key} name"
    for name in names:
        if not re.fullmatch(r"[\w-][\w.-]{0,199}", name):
            raise InputError(f"{csv}: {kind} {name!r} may hold only letters, digits and _ . -")
    if names.duplicated().any():
        raise InputError(f"{csv}: {key} {names[names.duplicated()].iloc[0]!r} twice")
    return table


def inside(csv, path):
    """Return the full path of a table's entry, which must lie in the table's folder."""
    try:
        folder = csv.resolve().parent
        full = (folder / path).resolve()
        full.is_file()  # of a name that no file can have it raises
    except (OSError, ValueError, RuntimeError) as error:  # the last for links in a circle
        reason = getattr(error, "strerror", None) or error
        shown = path if len(path) < 100 else f"{path[:100]}…"
        raise InputError(f"{csv}: {shown!r} is no path: {reason}") from None
    if "://" in path or path.startswith("/vsi") or not full.is_relative_to(folder):
        raise InputError(f"{csv}: {path} leaves the folder of the table; keep files beside it")
    return full


def _read_cells(csv):
    """Return the texts of a table without blanks around them, columns by the first line."""
    if not csv.is_file():
        raise InputError(f"no table at {csv}")
    text = StringIO(read_text(csv, most=MAX_BYTES))
    try:
        # The header is a row like others, so that a longer one is an error, not an index.
        cells = pd.read_csv(text, dtype=str, na_filter=False, header=None)
    except pd.errors.EmptyDataError:
        raise InputError(f"{csv} is empty; expected a table") from None
    except (ValueError, pd.errors.ParserError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{csv} is not a table of comma-separated values: {reason}") from None
    cells = cells.fillna("").apply(lambda column: column.str.strip())
    names = cells.iloc[0]
    if (names == "").any():
        number = list(names).index("") + 1
        raise InputError(f"{csv}: column {number} has no name in the first line")
    if names.duplicated().any():
        raise InputError(f"{csv}: column {names[names.duplicated()].iloc[0]!r} twice")
    return cells.iloc[1:].set_axis(names, axis=1).reset_index(drop=True)
