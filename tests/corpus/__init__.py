"""Broken inputs by the door they come in through, and how glavitu must answer each.

Each is answered by one line that says what is wrong, with status 2, soon, in little memory and
leaving nothing. `python -m tests.corpus` writes the table of cases and answers.
"""

from . import (
    environment,
    geotiff,
    hdf5,
    notebooks,
    options,
    profiles,
    results,
    scenes,
    tiles_csv,
    weights,
)

DOORS = {
    door.DOOR: door.CASES
    for door in (
        tiles_csv,
        geotiff,
        hdf5,
        profiles,
        weights,
        results,
        options,
        notebooks,
        environment,
        scenes,
    )
}
