"""The arrays of a tile as a lazy `xarray.Dataset` with its coordinates and CRS."""

import numpy as np
import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing

from glavitu.errors import InputError
from glavitu.hdf5 import reading


def lazy_dataset(variables, manager, attributes, band_names):
    """Return a dataset of one tile that reads values when they are asked for.

    Parameters
    ----------
    variables : dict of str to h5py.Dataset
        Arrays (y, x, band) by source, the one-hot label as ``groundtruth``, and codes
        (y, x) as ``surface``.
    manager : xarray.backends.FileManager
        Opens their file, also in a process that the dataset was sent to.
    attributes : dict
        Of the tile; `transform` gives coordinates of the pixels' centres, `crs` their CRS.
    band_names : dict of str to list of str
        Source -> what its bands are called, which become coordinates.

    Returns
    -------
    xarray.Dataset
    """
    dataset = xr.Dataset(
        {
            name: (
                _dimensions(name, array),
                _on_demand(_LazyArray(manager, array)),
            )
            for name, array in variables.items()
        },
        coords={f"{source}_band": names for source, names in band_names.items()},
        attrs=attributes,
    )
    return _georeference(dataset)


def _on_demand(array):
    """Read an array when it is asked for, and keep it, as `xarray.open_dataset` does."""
    lazy = indexing.LazilyIndexedArray(array)
    return indexing.CopyOnWriteArray(indexing.MemoryCachedArray(lazy))


def _dimensions(name, array):
    band = "class" if name == "groundtruth" else f"{name}_band"
    return ("y", "x", band)[: array.ndim]


def check_no_dimension(where, source, sources):
    """Refuse a source called like the dimension of another one's bands."""
    other = source.removesuffix("_band")
    if other != source and other in sources:
        raise InputError(
            f"{where}: a source cannot be named {source!r} beside {other!r}, whose bands are "
            "listed by that name; name it otherwise"
        )


def _georeference(tile):
    """Add pixel-centre coordinates and the CRS from the attributes `transform` and `crs`."""
    if "transform" not in tile.attrs:
        return tile
    a, _, c, _, e, f = tile.attrs["transform"]
    tile = tile.assign_coords(
        x=c + a * (np.arange(tile.sizes["x"]) + 0.5), y=f + e * (np.arange(tile.sizes["y"]) + 0.5)
    )
    if "crs" in tile.attrs:
        import rioxarray  # noqa: F401  registers .rio; slow to import, and not always needed

        tile = tile.rio.write_crs(tile.attrs["crs"])
    return tile


class _LazyArray(BackendArray):
    """An HDF5 dataset as xarray's lazily indexed array; a copy opens the file anew."""

    def __init__(self, manager, array):
        self.manager = manager
        self.name = array.name
        self.shape = array.shape
        self.dtype = array.dtype

    def __getitem__(self, key):
        return indexing.explicit_indexing_adapter(
            key, self.shape, indexing.IndexingSupport.BASIC, self._read
        )

    def _read(self, key):
        with self.manager.acquire_context() as file, reading(f"{file.filename}: {self.name}"):
            return file[self.name][key]
