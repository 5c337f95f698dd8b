"""HDF5 tile files <-> xarray, in the layout of the published data.

A file holds one group per tile; a group holds one array (y, x, band) per source and the one-hot
label. Files are plain HDF5: no dimension scales, any float type, chunking and compression. A group
may also hold a layer ``surface`` (y, x) of codes, which scores are split by; it is never a source.
"""

import json
import re
from collections.abc import Mapping
from functools import cached_property
from itertools import product
from pathlib import Path

import h5py
import numpy as np
from xarray.backends import CachingFileManager

from glavitu.bands import check_count, complete_names
from glavitu.errors import InputError
from glavitu.hdf5 import check_finite, check_label, map_arrays, member, open_file, plain, reading
from glavitu.tile_datasets import lazy_dataset
from glavitu.tile_headers import LABELS, bands_of, variables_of
from glavitu.units import are_numbers, check_scaling
from glavitu.unpacking import unpack

SPLITS = ("train", "val", "test")
UNLABELLED = 255  # in maps of classes


def open_tiles(path):
    """Open an HDF5 tile file lazily.

    Parameters
    ----------
    path : str or Path
        A file in the published layout.

    Returns
    -------
    Tiles
        Mapping of tile name to lazy `xarray.Dataset`; nothing but the headers is read.

    Raises
    ------
    InputError
        If the file is missing, damaged, not HDF5, or holds no tiles or what is not stored in it.
    """
    if not Path(path).exists():
        raise InputError(f"no tile file at {path}; expected HDF5 with one group per tile")
    file = open_file(path)
    with reading(path):
        return Tiles(file)


def find_split(data, split):
    """Return the file of a split in the folder `data`: ``test.hdf5`` or ``test_ps384_….hdf5``."""
    data = Path(data)
    if data.exists() and not data.is_dir():
        raise InputError(f"{data} is a file; name the folder of the tile files")
    if not data.is_dir():
        raise InputError(
            f"no data folder at {data.absolute()}; put tile files there (see README), or make demo "
            f"data there: `python -m glavitu demo-data {data}`"
        )
    named = data / f"{split}.hdf5", *sorted(data.glob(f"{split}_*.hdf5"))
    found = [path for path in named if path.exists()]
    if not found:
        raise InputError(f"{data} has no {split}.hdf5 (or {split}_*.hdf5)")
    return found[0]


def check_same_scaling(tiles, scaling, sources):
    """Raise `InputError` where tiles were scaled otherwise, if both scalings are known."""
    found = tiles.scaling
    for source in sources:
        one, other = ((known or {}).get(source) for known in (scaling, found))
        if one and other and any(one[key] != other[key] for key in ("low", "high")):
            raise InputError(
                f"{tiles.path}: {source!r} is scaled from {other['low']} to {other['high']}, the "
                f"training data from {one['low']} to {one['high']}; compile the splits together, "
                "or train on these"
            )


class Tiles(Mapping):
    """The tiles of one HDF5 file: name -> lazy `xarray.Dataset`.

    A dataset has one variable per source with dimensions ``(y, x, <source>_band)``, of which the
    last one bears the bands' names; ``groundtruth`` with ``(y, x, class)``; ``surface`` with
    ``(y, x)`` where the tile has that layer (see `glavitu.compile_tiles`); coordinates and CRS
    where the file has them; and the attributes `tile`, `region`, `padding_height` and
    `padding_width`. `path` is that of the file, and `sources` the number of bands of each source
    over all tiles. Pickled tiles open the file anew.
    """

    def __init__(self, file):
        self._file, self.path = file, Path(file.filename)
        self._names = [name for name in file if isinstance(member(file, name), h5py.Group)]
        if not self._names:
            raise InputError(f"{file.filename} holds no tiles; expected one group per tile")
        self._variables = {name: variables_of(file, name) for name in self._names}
        self._mapped = map_arrays(file, self._variables)
        self._manager = CachingFileManager(h5py.File, file.filename, mode="r")
        self.sources = {
            source: bands
            for variables in self._variables.values()
            for source, bands in bands_of(variables).items()
        }

    def __reduce__(self):
        return open_tiles, (self.path.absolute(),)

    def close(self):
        """Close the file; also done at the end of a ``with`` block."""
        self._mapped = {}
        self._manager.close()
        self._file.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def __iter__(self):
        return iter(self._names)

    def __len__(self):
        return len(self._names)

    def __getitem__(self, name):
        """Return one tile, lazily."""
        if name not in self._variables:
            raise KeyError(name)
        attributes = self._attributes(name)
        attributes |= {
            "tile": name,
            "region": self.region(name),
            "padding_height": self.padding(name)[0],
            "padding_width": self.padding(name)[1],
        }
        variables = self._variables[name]
        names = self._names_of(bands_of(variables))
        with reading(f"{self.path}: tile {name}"):
            return lazy_dataset(variables, self._manager, attributes, names)

    def __repr__(self):
        sources = ", ".join(f"{source} ({bands})" for source, bands in self.sources.items())
        return f"<Tiles {self.path.name}, tiles: {len(self)}, sources: {sources}>"

    @property
    def attrs(self):
        """Attributes of the file: how the sources were scaled, where it was made by us."""
        self._check_open()
        with reading(f"{self.path}: its attributes"):
            return plain(self._file.attrs)

    @property
    def scaling(self):
        """How each source was scaled, as `glavitu.compile_tiles` says it; None if not known."""
        with reading(f"{self.path}: the attribute scaling"):
            scaling = json.loads(self.attrs.get("scaling", "null"))
        if scaling is not None:
            check_scaling(f"{self.path}: scaling", scaling, self.sources)
        return scaling

    @cached_property
    def band_names(self):
        """Source name -> what its bands are called, as the file says or in the published order.

        Bands whose order nobody says are called ``band 1`` and so on.
        """
        return self._names_of(self.sources)

    def _names_of(self, sources):
        with reading(f"{self.path}: the attribute bands"):
            said = json.loads(self.attrs.get("bands", "{}"))
        return complete_names(said, sources, f"{self.path}: the attribute bands")

    @property
    def pixel_size(self):
        """Side of the first tile's pixels in metres; None where it does not say."""
        name = next(iter(self))
        attributes = self._attributes(name)
        if not {"crs", "transform"} <= set(attributes):
            return None
        from rasterio.crs import CRS  # with PROJ slow to import, and not needed by most

        from glavitu.grids import Grid, pixel_size
        from glavitu.local_rasters import check_proj

        check_proj()
        with reading(f"{self.path}: the CRS of tile {name}"):
            crs = CRS.from_user_input(attributes["crs"])
            size = pixel_size(Grid(crs, attributes["transform"], self.shape(name)))
        return size if size > 0 else None  # NaN where the coordinates are no place in the CRS

    def has(self, name, variable):
        """Return whether a tile has a variable."""
        return variable in self._variables[name]

    def region(self, name):
        """Region of a tile: its attribute, or the letters of its name before the first ``-``."""
        letters = re.sub(r"[^A-Za-z]", "", name.split("-")[0]) or name
        return str(self._attributes(name).get("region", letters))

    def shape(self, name):
        """Height and width of a tile in pixels, padding included."""
        self._check_open()
        return next(iter(self._variables[name].values())).shape[:2]

    def padding(self, name):
        """Rows at the top and bottom, and columns at the left and right, that are padding."""
        return tuple(self._attributes(name).get(f"padding_{s}", 0) for s in ("height", "width"))

    def _attributes(self, name):
        """Return the attributes of a tile, after checking those that say where it lies."""
        self._check_open()
        where = f"{self.path}: tile {name}"
        with reading(where):
            attributes = plain(self._file[name].attrs)
        for side, pixels in zip(("height", "width"), self.shape(name), strict=True):
            padding = attributes.get(f"padding_{side}", 0)
            if not isinstance(padding, int) or not 0 <= 2 * padding <= max(0, pixels - 1):
                raise InputError(
                    f"{where}: padding_{side} is {padding!r}, expected a whole number less than "
                    f"half of {pixels}"
                )
        transform = attributes.get("transform", [0] * 6)
        if not are_numbers(transform, 6):
            raise InputError(f"{where}: transform is {transform!r}, not 6 numbers")
        if transform[1] or transform[3]:
            raise InputError(
                f"{where}: transform is {transform!r}, which is rotated; expected rows from west "
                "to east"
            )
        return attributes

    def read(self, name, variable, window=(slice(None), slice(None))):
        """Read a window of one variable, bypassing xarray for speed; it may not be written to.

        It is float32 (y, x, band), or codes as stored (y, x) for ``surface``.
        """
        self._check_open()
        array = self._mapped[name][variable]
        with reading(f"{self.path}: {variable} of tile {name}"):
            values = array[window]
        if variable == "groundtruth":
            check_label(values, f"{self.path}: tile {name}")
        return values.astype(np.float32 if array.ndim == 3 else array.dtype, copy=False)

    def _check_open(self):
        if not self._mapped:
            raise InputError(f"{self.path} was closed; open it again")

    def unpacked(self):
        """Return the same tiles for callers that read windows repeatedly: unpacked only once.

        The parts of compressed files that are read take up room in the temporary folder, up to half
        of what is free there; where that is too little, they are unpacked for every window.
        """
        tiles = object.__new__(Tiles)  # `copy` would open the file anew, as pickling does
        vars(tiles).update(vars(self))
        tiles._mapped = unpack(self._mapped)
        return tiles

    def check(self, inputs, patch_size=1, *, labelled=True):
        """Raise `InputError` unless each tile has the sources `inputs`, a label and the size."""
        for name, variables in self._variables.items():
            where = f"{self.path}: tile {name}"
            self._attributes(name)
            if labelled and "groundtruth" not in variables:
                raise InputError(f"{where} has no label ({' or '.join(LABELS)})")
            sources = [key for key, array in variables.items() if array.ndim == 3]
            for source, bands in inputs.items():
                if source not in sources:
                    raise InputError(
                        f"{where} has no {source!r}, only {', '.join(sources)}; choose sources "
                        "that every tile has"
                    )
                check_count(where, source, variables[source].shape[2], bands)
            height, width = self.shape(name)
            if min(height, width) < patch_size:
                raise InputError(
                    f"{where} is {height}x{width} pixels, smaller than the patch of {patch_size}; "
                    "choose a smaller patch_size or pad the tiles"
                )

    def check_values(self, inputs):
        """Raise `InputError` for the first tile whose sources are not finite."""
        for name, source in product(self, inputs):
            check_finite(self.read(name, source), f"{self.path}: tile {name}: {source!r}")
