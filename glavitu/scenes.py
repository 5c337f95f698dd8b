"""GeoTIFF <-> xarray, and `compile_tiles`: a `tiles.csv` of GeoTIFFs to HDF5 tile files."""

import json
from pathlib import Path

import h5py
import numpy as np
import rasterio
import rioxarray
import xarray as xr

from glavitu import __version__
from glavitu.errors import InputError
from glavitu.files import replacing
from glavitu.progress import progress
from glavitu.rasters import check_north_up
from glavitu.tables import inside, read_table
from glavitu.tiles import SPLITS, SURFACE, UNKNOWN, write_tile

FIXED_COLUMNS = ("tile", "region", "split", "groundtruth")
SAMPLE = 2_000_000  # pixels per band from which the percentiles are estimated


def read_raster(path):
    """Read a raster as float32 (y, x, band) with NaN where it has no data.

    Raises `InputError` where the file is missing, no raster, south-up or rotated.
    """
    if not Path(path).is_file():
        raise InputError(f"no raster at {path}")
    try:
        with rioxarray.open_rasterio(path, masked=True) as raster:
            raster = raster.load().astype(np.float32)
    except rasterio.errors.RasterioError as error:
        raise InputError(f"{path} is not a raster GDAL can read: {error}") from None
    check_north_up(path, raster.rio.transform())
    return raster.where(np.isfinite(raster)).transpose("y", "x", "band")


def write_raster(path, array):
    """Write a georeferenced `xarray.DataArray` (band, y, x) or (y, x) as a compressed GeoTIFF."""
    with replacing(path) as part:
        array.rio.to_raster(part, driver="GTiff", compress="deflate", tiled=True)


def compile_tiles(csv, directory, *, patch_size=384):
    """Compile a table of GeoTIFF tiles to ``train.hdf5``, ``val.hdf5`` and ``test.hdf5``.

    Sources are scaled to about 0..1, linearly, from the 1st to the 99th percentile of the training
    split, band by band. A pixel without data in any source, or without label, is unlabelled (its
    one-hot is all zero) and its missing values are 0. Tiles smaller than a patch are padded with
    unlabelled zeros on each side.

    Parameters
    ----------
    csv : str or Path
        Table with the columns ``tile``, ``region``, ``split`` (train, val or test), one column per
        source, and ``groundtruth`` (1 = glacier, 0 = not): paths relative to the table's folder.
        An optional column ``surface``, which tiles may leave empty, names rasters of whole numbers
        that are kept for scoring, unscaled, and are no source: a surface (0 rock, 1 clean ice,
        2 debris-covered ice, 3 seasonal snow, 4 water, 5 vegetation) plus 10 in shadow or 20 under
        cloud; 255 or no data means unknown.
    directory : str or Path
        Folder for the three files; existing ones are replaced.
    patch_size : int
        Least height and width of the stored tiles, in pixels.

    Returns
    -------
    dict of str to Path
        The file of each split.

    Raises
    ------
    InputError
        For a table or raster that cannot be used; nothing is written then.
    """
    table = _read_table(Path(csv))
    sources = _sources_of(table)
    scaling = _training_scaling(table, sources)
    directory = Path(directory)
    paths = {split: directory / f"{split}.hdf5" for split in SPLITS}
    with (
        replacing(paths["train"]) as train,
        replacing(paths["val"]) as val,
        replacing(paths["test"]) as test,
    ):
        for split, part in zip(SPLITS, (train, val, test), strict=True):
            _write_split(part, table[table["split"] == split], sources, scaling, patch_size)
        (directory / "demo_data.json").unlink(missing_ok=True)  # not true of what replaces it
    return paths


def _read_table(csv):
    expected = "tile, region, split, one column per source, groundtruth"
    table = read_table(csv, FIXED_COLUMNS, expected)
    sources = _sources_of(table)
    if not sources:
        raise InputError(f"{csv} names no source; add a column such as 'optical' with paths")
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
        table[column] = [inside(csv, path) if path else None for path in table[column]]
        shared = table[column].notna() & table[column].duplicated(keep=False)
        if shared.any():
            twice = table.loc[shared, "tile"]
            raise InputError(f"{csv}: tiles {twice.iloc[0]} and {twice.iloc[1]} share a {column}")
    return table


def _sources_of(table):
    return [column for column in table if column not in (*FIXED_COLUMNS, SURFACE)]


def _read_tile(row, sources):
    """Return label and sources of a table's row, on one grid, and check them."""
    label = read_raster(row["groundtruth"])
    values = label.values[np.isfinite(label.values)]
    if label.sizes["band"] != 1 or not np.isin(values, (0, 1)).all():
        raise InputError(f"{row['groundtruth']}: labels must be one band of 0 and 1 (glacier)")
    arrays = {source: read_raster(row[source]) for source in sources}
    for source, array in arrays.items():
        _check_grid(row, source, array, label)
    return label, arrays


def _read_surface(row, label):
    """Return the codes (y, x) of a tile's surface layer as uint8, on the grid of its label."""
    array = read_raster(row[SURFACE])
    _check_grid(row, SURFACE, array, label)
    codes = array.fillna(UNKNOWN).values
    if codes.shape[2] != 1 or not np.isin(codes, np.arange(256)).all():
        raise InputError(f"{row[SURFACE]}: surfaces must be one band of whole numbers 0 to 255")
    return codes[..., 0].astype(np.uint8)


def _check_grid(row, column, array, label):
    if _grid(array) != _grid(label):
        raise InputError(
            f"tile {row['tile']}: {row[column]} has the grid {_describe(array)}, the "
            f"groundtruth {_describe(label)}; warp them to one grid"
        )


def _grid(array):
    return array.shape[:2], array.rio.crs, array.rio.transform().to_gdal()


def _describe(array):
    height, width = array.shape[:2]
    crs = array.rio.crs.to_string() if array.rio.crs else "no CRS"
    return f"{height}x{width} at {tuple(array.rio.transform())[:6]} in {crs}"


def _training_scaling(table, sources):
    """Return per source the 1st and 99th percentile of each band over the training split."""
    rows = table[table["split"] == "train"]
    share = max(1000, SAMPLE // len(rows))
    samples = {source: [] for source in sources}
    for _, row in progress(rows.iterrows(), total=len(rows), description="statistics"):
        for source, array in _read_tile(row, sources)[1].items():
            pixels = array.values.reshape(-1, array.sizes["band"])
            samples[source].append(pixels[:: max(1, len(pixels) // share)])
    return {source: _percentiles(source, tiles) for source, tiles in samples.items()}


def _percentiles(source, tiles):
    bands = {tile.shape[1] for tile in tiles}
    if len(bands) > 1:
        raise InputError(
            f"{source!r} has {min(bands)} bands in some tiles and {max(bands)} in others"
        )
    pixels = np.concatenate(tiles)
    if np.isnan(pixels).all(axis=0).any():
        raise InputError(f"{source!r} has a band without any data in the training split")
    low, high = np.nanpercentile(pixels, (1, 99), axis=0)
    if (low == high).any():
        band = int(np.flatnonzero(low == high)[0])
        raise InputError(
            f"band {band + 1} of {source!r} is {low[band]} all over the training split"
        )
    return {"low": low.tolist(), "high": high.tolist()}


def _write_split(path, rows, sources, scaling, patch_size):
    with h5py.File(path, "w") as file:
        file.attrs["scaling"] = json.dumps(scaling)
        file.attrs["software"] = f"glavitu {__version__}"
        for _, row in progress(rows.iterrows(), total=len(rows), description=rows["split"].iloc[0]):
            label, arrays = _read_tile(row, sources)
            _check_bands(row, arrays, scaling)
            surface = _read_surface(row, label) if row[SURFACE] else None
            tile, attributes = _prepare(label, arrays, surface, scaling, patch_size)
            write_tile(file, row["tile"], tile, attributes | {"region": row["region"]})


def _check_bands(row, arrays, scaling):
    for source, array in arrays.items():
        bands, expected = array.sizes["band"], len(scaling[source]["low"])
        if bands != expected:
            raise InputError(f"{row[source]} has {bands} band(s), the training split {expected}")


def _prepare(label, arrays, surface, scaling, patch_size):
    """Return the arrays of a tile as they are stored, and its attributes."""
    valid = np.isfinite(label.values[..., 0])
    for array in arrays.values():
        valid &= np.isfinite(array.values).all(axis=-1)
    glacier = label.values[..., 0] == 1
    stored = {source: scale(array.values, **scaling[source]) for source, array in arrays.items()}
    stored["groundtruth"] = np.stack([valid & ~glacier, valid & glacier], -1).astype(np.float32)
    pads = [max(0, -(-(patch_size - side) // 2)) for side in valid.shape]
    stored = {
        name: np.pad(array, [(pads[0],) * 2, (pads[1],) * 2, (0, 0)])
        for name, array in stored.items()
    }
    if surface is not None:
        stored[SURFACE] = np.pad(surface, [(pad,) * 2 for pad in pads], constant_values=UNKNOWN)
    a, _, c, _, e, f = tuple(label.rio.transform())[:6]
    attributes = {
        "padding_height": pads[0],
        "padding_width": pads[1],
        "transform": (a, 0.0, c - a * pads[1], 0.0, e, f - e * pads[0]),
    }
    if label.rio.crs:
        attributes["crs"] = label.rio.crs.to_string()
    return stored, attributes


def scale(array, low, high):
    """Scale bands linearly so that `low` becomes 0 and `high` 1; missing values become 0."""
    low, high = np.asarray(low), np.asarray(high)
    return np.nan_to_num((array - low) / (high - low)).astype(np.float32)


def to_dataarray(values, transform, crs, *, nodata=None, bands=None):
    """Return values (band, y, x) as a georeferenced `xarray.DataArray` ready to be written.

    `bands` are the descriptions of the bands that GIS software shows.
    """
    array = xr.DataArray(values, dims=("band", "y", "x"))
    if bands:
        array.attrs["long_name"] = tuple(bands)
    array = array.rio.write_transform(rasterio.Affine(*transform)).rio.write_crs(crs)
    return array if nodata is None else array.rio.write_nodata(nodata)
