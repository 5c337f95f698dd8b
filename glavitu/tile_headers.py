"""Which arrays a tile of an HDF5 file has: their headers, checked."""

import h5py

from glavitu.errors import InputError
from glavitu.hdf5 import check_array, member
from glavitu.surfaces import SURFACE
from glavitu.tile_datasets import check_no_dimension

LABELS = ("groundtruth", "outlines")  # the paper's name and the successor study's
RESERVED = ("x", "y", "spatial_ref", "class")  # coordinates and a dimension of a tile


def bands_of(variables):
    """Return source -> number of bands among the arrays of a tile."""
    return {
        source: array.shape[2]
        for source, array in variables.items()
        if source != "groundtruth" and array.ndim == 3
    }


def variables_of(file, name):
    """Return the arrays of a tile by name, the label as ``groundtruth``, after checking them."""
    group, variables = file[name], {}
    for key in group:
        array = member(group, key)
        rank = array.ndim if isinstance(array, h5py.Dataset) else 0
        if rank == 3 or (key == SURFACE and rank == 2):
            check_array(array)
            if key in RESERVED:
                raise InputError(
                    f"{file.filename}: tile {name} has a source {key!r}, which is the name of a "
                    "coordinate; name it otherwise"
                )
            check_no_dimension(f"{file.filename}: tile {name}", key, group)
            variables["groundtruth" if key in LABELS else key] = array
    if not any(array.ndim == 3 for array in variables.values()):
        raise InputError(f"{file.filename}: {name} holds no (y, x, band) arrays; not a tile file")
    if len({array.shape[:2] for array in variables.values()}) > 1:
        sizes = ", ".join(f"{key} {array.shape[:2]}" for key, array in variables.items())
        raise InputError(f"{file.filename}: tile {name} has arrays of different sizes: {sizes}")
    return variables
