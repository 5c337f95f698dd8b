"""Tables of what to read: comma-separated values, with paths from the table's folder."""

import re

import pandas as pd

from glavitu.errors import InputError


def read_table(csv, columns, expected):
    """Read a table as texts without blanks around them, and check that it has `columns`.

    The first of `columns` names the rows: each has a name of its own that can name a file.
    """
    if not csv.is_file():
        raise InputError(f"no table at {csv}")
    try:
        table = pd.read_csv(csv, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (ValueError, pd.errors.ParserError) as error:
        raise InputError(f"{csv} is not a table of comma-separated values: {error}") from None
    table = table.rename(columns=str.strip).apply(lambda column: column.str.strip())
    missing = [column for column in columns if column not in table]
    if missing:
        raise InputError(
            f"{csv} has no column {missing[0]!r}; expected {expected}; found {', '.join(table)}"
        )
    key, names = columns[0], table[columns[0]]
    for name in names:
        if not re.fullmatch(r"[\w-][\w.-]*", name):
            raise InputError(f"{csv}: {key} name {name!r} may hold only letters, digits and _ . -")
    if names.duplicated().any():
        raise InputError(f"{csv}: {key} {names[names.duplicated()].iloc[0]!r} twice")
    return table


def inside(csv, path):
    """Return the full path of a table's entry, which must lie in the table's folder."""
    folder = csv.resolve().parent
    full = (folder / path).resolve()
    if "://" in path or path.startswith("/vsi") or not full.is_relative_to(folder):
        raise InputError(f"{csv}: {path} leaves the folder of the table; keep files beside it")
    return full
