"""The rasters of a tile in a `tiles.csv`: read, and checked against its label."""

import numpy as np

from glavitu.errors import InputError
from glavitu.geotiffs import read_raster
from glavitu.grids import Grid, crs_name, pixel_size, place_in
from glavitu.local_rasters import check_crs
from glavitu.surfaces import SURFACE, UNKNOWN


def read_tile(row, sources):
    """Return label, sources and surface of a table's row, on one grid, after checking them."""
    try:
        label = _read_column(row, "groundtruth")
        _check_label(row, label)
        _check_place(row, label)
        arrays = {source: _read_column(row, source) for source in sources}
        for source, array in arrays.items():
            _check_grid(row, source, array, label)
        return label, arrays, _read_surface(row, label) if row[SURFACE] else None
    except InputError as error:
        raise InputError(f"tile {row['tile']}: {error}") from None


def _read_column(row, column):
    try:
        return read_raster(row[column])
    except InputError as error:
        raise InputError(f"{column}: {error}") from None


def _check_label(row, label):
    values = label.values[np.isfinite(label.values)]
    found = f"{label.sizes['band']} bands" if label.sizes["band"] != 1 else ""
    if not found and (wrong := values[(values != 0) & (values != 1)]).size:
        found = f"{wrong[0]:g}"
    if found:
        raise InputError(
            f"{row['groundtruth']} has {found}; labels must be one band of 0 and 1 (glacier)"
        )
    if label.rio.encoded_nodata == 0:
        raise InputError(
            f"{row['groundtruth']} declares 0 as no data, so that nothing is background; take that "
            f"away (gdal_edit.py -unsetnodata FILE) or declare another value"
        )


def _check_place(row, label):
    """Refuse a label with a CRS in which its coordinates are no place on Earth."""
    if crs := label.rio.crs:
        check_crs(row["groundtruth"], crs)
        if np.isnan(pixel_size(_grid(label))):
            raise InputError(
                f"{row['groundtruth']} has coordinates that are no place in {crs_name(crs)}; "
                "assign the CRS that they are of, as with gdal_edit.py -a_srs"
            )


def _read_surface(row, label):
    """Return the codes (y, x) of a tile's surface layer as uint8, on the grid of its label."""
    array = _read_column(row, SURFACE)
    _check_grid(row, SURFACE, array, label)
    codes = array.fillna(UNKNOWN).values
    if codes.shape[2] != 1 or not np.isin(codes, np.arange(256)).all():
        raise InputError(f"{row[SURFACE]}: surfaces must be one band of whole numbers 0 to 255")
    return codes[..., 0].astype(np.uint8)


def _check_grid(row, column, array, label):
    if bool(array.rio.crs) != bool(label.rio.crs):  # warping would not help
        lacking = "groundtruth" if array.rio.crs else column
        check_crs(row[lacking], None)
    grids = _grid(array), _grid(label)
    if grids[0].shape != grids[1].shape or place_in(*grids) != (0, 0):
        raise InputError(
            f"{row[column]} has the grid {_describe(array)}, the groundtruth {_describe(label)}; "
            "warp them to one grid"
        )


def _grid(array):
    return Grid(array.rio.crs, array.rio.transform(), array.shape[:2])


def _describe(array):
    height, width = array.shape[:2]
    crs = array.rio.crs.to_string() if array.rio.crs else "no CRS"
    return f"{height}x{width} at {tuple(array.rio.transform())[:6]} in {crs}"
