"""Read `tiles.csv`, and refuse what is no table of tiles."""

import re

from glavitu.errors import InputError
from glavitu.surfaces import SURFACE
from glavitu.tables import inside, read_table
from glavitu.tile_datasets import check_no_dimension
from glavitu.tile_headers import LABELS, RESERVED
from glavitu.tiles import SPLITS

FIXED_COLUMNS = ("tile", "region", "split", "groundtruth")


def read_tile_table(csv):
    """Return a table of tiles as `glavitu.compile_tiles` describes it, its paths in full.

    Raises `InputError` for what cannot be used, and for paths that leave the table's folder.
    """
    expected = "tile, region, split, one column per source, groundtruth"
    table = read_table(csv, FIXED_COLUMNS, expected)
    sources = sources_of(table)
    if not sources:
        raise InputError(f"{csv} names no source; add a column such as 'optical' with paths")
    for source in sources:
        if source in (*LABELS, *RESERVED) or not re.fullmatch(r"[\w-][\w.-]*", source):
            raise InputError(
                f"{csv}: a source cannot be named {source!r}; use letters, digits and _ . - (the "
                f"label's column is groundtruth; {', '.join(RESERVED)} are taken)"
            )
        check_no_dimension(csv, source, sources)
    for column in (*FIXED_COLUMNS, *sources):
        if (table[column] == "").any():
            tile = table.loc[table[column] == "", "tile"].iloc[0]
            raise InputError(f"{csv}: tile {tile!r} lacks {column!r}")
    unknown = set(table["split"]) - set(SPLITS)
    if unknown:
        raise InputError(f"{csv}: unknown split {sorted(unknown)[0]!r}; use train, val or test")
    for split in SPLITS:
        if split not in set(table["split"]):
            raise InputError(f"{csv}: the split {split!r} is empty; give it at least one tile")
    if SURFACE not in table:
        table[SURFACE] = ""
    for column in ("groundtruth", SURFACE, *sources):
        pairs = zip(table["tile"], table[column], strict=True)
        table[column] = [_full(csv, tile, column, path) for tile, path in pairs]
        shared = table[column].notna() & table[column].duplicated(keep=False)
        if shared.any():
            twice = table.loc[shared, "tile"]
            tiles = " and ".join(twice.iloc[:2])
            raise InputError(
                f"{csv}: tiles {tiles} have one file of {column!r}; each needs its own"
            )
    return table


def _full(csv, tile, column, path):
    try:
        return inside(csv, path) if path else None
    except InputError as error:
        raise InputError(f"tile {tile}, {column}: {error}") from None


def sources_of(table):
    """Return the columns of a table that name the rasters of sources."""
    return [column for column in table if column not in (*FIXED_COLUMNS, SURFACE)]
