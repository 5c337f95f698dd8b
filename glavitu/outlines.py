"""Glacier outlines: polygons traced from a map of classes, their areas, and their file."""

from contextlib import nullcontext
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
import rasterio
import shapely
from pyproj import CRS
from rasterio.features import shapes
from rasterio.windows import Window
from scipy.ndimage import label
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from glavitu.areas import geodesic_area
from glavitu.errors import InputError
from glavitu.files import replacing
from glavitu.grids import Grid
from glavitu.local_rasters import check_crs, check_north_up, first_line, open_local
from glavitu.staircase import cuts_of, on_map, straighten
from glavitu.staircase import smooth as smoothed

GLACIER, NO_DATA = 1, 255  # values of pixels; 0 is other ground
STRIP = 4_000_000  # pixels of a strip
COLUMNS = ("id", "area_km2", "confidence", "geometry")


def trace(path, *, confidence=None, min_area=0.01, smooth=0.0, attributes=None, rows=None):
    """Trace the outlines of glaciers in a map of classes, which may be larger than memory.

    Pixels that share a side belong to one glacier, pixels that share only a corner do not; holes
    are kept, however small. The map is read by strips of rows; the outlines do not depend on the
    height of the strips.

    Parameters
    ----------
    path : str or Path
        GeoTIFF of one band, uint8: 1 is glacier, anything else is not.
    confidence : str or Path, optional
        GeoTIFF of one band on the same grid, NaN or its nodata value where unknown.
    min_area : float
        Smaller glaciers (km2) are left out.
    smooth : float
        Metres to cut off each side of the corners of the pixel staircase: at most half a side and
        at most a pixel, and less where the area of a glacier would change by more than 1 % or its
        outline would cross itself. 0 leaves outlines on the edges of pixels.
    attributes : dict of str to str, optional
        Columns with one value for all outlines, such as the source or the date.
    rows : int, optional
        Height of a strip; by default as many rows as make 4 million pixels.

    Returns
    -------
    geopandas.GeoDataFrame
        A polygon per glacier in the CRS of the map, the largest first: ``id`` from 1, ``area_km2``
        on the ellipsoid, ``confidence`` (mean over its pixels, NaN where none is known), the
        attributes, ``geometry``. Its ``attrs`` say how many were left out as too small
        (``left_out``), and their area together (``left_out_km2``).

    Raises
    ------
    InputError
        For a raster that is missing, damaged, rotated, without CRS, of another type or on
        another grid, and for an attribute named like another column.
    """
    attributes = attributes or {}
    for column in attributes:
        if column.lower() in COLUMNS:
            raise InputError(f"attribute {column!r} has the name of a column of the outlines")
    polygons, areas, means = [np.empty(0, object)], [np.empty(0)], [np.empty(0)]
    left_out = {"left_out": 0, "left_out_km2": 0.0}
    with (
        open_local(path) as raster,
        nullcontext() if confidence is None else open_local(confidence) as layer,
    ):
        _check_grids(raster, layer)
        crs = CRS.from_user_input(raster.crs)
        grid = Grid(raster.crs, raster.transform, raster.shape)
        for pieces in _finished_pieces(raster, layer, rows, lambda values: values == GLACIER):
            found, mean = _merge(pieces)
            if smooth:
                found = smoothed(found, cuts_of(found, grid, smooth))
            found = on_map(found, raster.transform)
            area = geodesic_area(found, crs)
            for kept, new in zip((polygons, areas, means), (found, area, mean), strict=True):
                kept.append(new[area >= min_area])
            small = area[area < min_area]
            left_out["left_out"] += len(small)
            left_out["left_out_km2"] += float(small.sum())
    polygons, areas, means = (np.concatenate(parts) for parts in (polygons, areas, means))
    west, _, _, north = shapely.bounds(polygons).reshape(-1, 4).T
    order = np.lexsort((west, -north, -areas))
    columns = {"id": np.arange(1, len(order) + 1), "area_km2": areas[order]}
    columns |= {"confidence": means[order]}
    columns |= {
        name: pd.Series([text] * len(order), dtype=object) for name, text in attributes.items()
    }
    frame = gpd.GeoDataFrame(columns, geometry=polygons[order], crs=crs)
    frame.attrs |= left_out
    return frame


def valid_extent(path, *, rows=None):
    """Return what a map of classes has data for, along the edges of its pixels.

    Parameters
    ----------
    path : str or Path
        A map of classes as `trace` reads it; 255 is no data.
    rows : int, optional
        Height of the strips that are read, as for `trace`.

    Returns
    -------
    geopandas.GeoSeries
        One multipolygon, in the CRS of the map; empty where nothing has data.

    Raises
    ------
    InputError
        For a raster that is missing, damaged, rotated, without CRS or of another type.
    """
    with open_local(path) as raster:
        _check_grids(raster, None)
        strips = _finished_pieces(raster, None, rows, lambda values: values != NO_DATA)
        parts = [on_map(_merge(pieces)[0], raster.transform) for pieces in strips]
        extent = shapely.multipolygons(np.concatenate(parts))
        return gpd.GeoSeries([shapely.normalize(extent)], crs=CRS.from_user_input(raster.crs))


def write_outlines(frame, path, *, written=None):
    """Write outlines as the layer ``outlines`` of a GeoPackage, whole or not at all.

    Parameters
    ----------
    frame : geopandas.GeoDataFrame
        The outlines, as `trace` returns them; may be empty.
    path : str or Path
        A file name that ends in ``.gpkg``; an existing file is replaced.
    written : str, optional
        The time of writing that the file states, such as ``2023-07-16T00:00:00Z``; now by default.

    Raises
    ------
    InputError
        For another file name.
    """
    if Path(path).suffix.lower() != ".gpkg":
        raise InputError(f"{path} must end in .gpkg, as outlines are written as GeoPackage")
    with replacing(path) as part:
        kind = None if len(frame) else "Polygon"
        pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": written})
        try:
            frame.to_file(
                part, layer="outlines", driver="GPKG", engine="pyogrio", geometry_type=kind
            )
        finally:
            pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": None})


def _check_grids(raster, layer):
    """Check a map of classes and, if there is one, the layer of its confidence."""
    transform = raster.transform
    if raster.dtypes != ("uint8",):
        kinds = ", ".join(raster.dtypes)
        raise InputError(f"{raster.name} has bands of {kinds}; a map of classes has one of uint8")
    check_crs(raster.name, raster.crs)
    check_north_up(raster.name, transform)
    if layer is None:
        return
    if layer.count != 1:
        raise InputError(f"{layer.name} has {layer.count} bands; confidence has one")
    if (
        layer.shape != raster.shape
        or layer.crs != raster.crs
        or not layer.transform.almost_equals(transform, precision=transform.a * 1e-3)
    ):
        raise InputError(f"{layer.name} is not on the grid of {raster.name}; warp it to that")


def _read(raster, window, **how):
    try:
        return raster.read(1, window=window, **how)
    except rasterio.errors.RasterioError as error:
        raise InputError(
            f"{raster.name} is damaged and cannot be read: {first_line(error)}"
        ) from None


def _finished_pieces(raster, layer, rows, wanted):
    """Yield after each strip the pieces of the glaciers that do not reach beyond it.

    A piece is the part of a glacier in one strip; those of one glacier have the same ``group``.
    Glaciers are where the function `wanted` of the raster's values is true.
    """
    rows = rows or max(1, STRIP // raster.width)
    waiting = _table(np.empty(0, object), np.empty(0), np.empty(0))
    above = np.zeros(raster.width, np.int64)  # group of each pixel of the row above, 0 for none
    for top in range(0, raster.height, rows):
        window = Window(0, top, raster.width, min(rows, raster.height - top))
        labels, pieces = _pieces_in(raster, layer, window, wanted)
        first, last = (np.where(row > 0, row + above.max(), 0) for row in (labels[0], labels[-1]))
        pieces["group"] += above.max()
        pieces = pd.concat([waiting, pieces], ignore_index=True)
        groups = _joined(above, first, pieces["group"].max() + 1 if len(pieces) else 1)
        pieces["group"] = groups[pieces["group"]]
        reaching = np.unique(groups[last[last > 0]])
        waits = pieces["group"].isin(reaching)
        yield pieces[~waits]
        waiting = pieces[waits].copy()
        waiting["group"] = np.searchsorted(reaching, waiting["group"]) + 1
        above = np.where(last > 0, np.searchsorted(reaching, groups[last]) + 1, 0)
    yield waiting


def _joined(above, below, count):
    """Return for each of `count` groups its new number, one for all that meet at a seam."""
    meet = (above > 0) & (below > 0)
    links = coo_array((np.ones(meet.sum()), (above[meet], below[meet])), shape=(count, count))
    return connected_components(links, directed=False)[1].astype(np.int64)


def _pieces_in(raster, layer, window, wanted):
    """Return the labels (y, x) of the pieces in a strip, from 1, and the table of pieces.

    Polygons are in columns and rows of the whole raster.
    """
    labels, count = label(wanted(_read(raster, window)))
    polygons = np.empty(count, object)
    place = rasterio.Affine.translation(0, window.row_off)
    for outline, number in shapes(labels, labels > 0, connectivity=4, transform=place):
        shell, *holes = outline["coordinates"]
        polygons[int(number) - 1] = shapely.Polygon(shell, holes)
    known, total = np.zeros(count), np.zeros(count)
    if layer is not None:
        values = _read(layer, window, masked=True).astype(np.float32).filled(np.nan)
        use = (labels > 0) & np.isfinite(values)
        known = np.bincount(labels[use], minlength=count + 1)[1:].astype(float)
        total = np.bincount(labels[use], values[use], minlength=count + 1)[1:].astype(float)
    return labels, _table(polygons, known, total)


def _table(polygons, known, total):
    """Return a table of pieces: number of pixels of known confidence and its sum over them."""
    group = np.arange(1, len(polygons) + 1)
    geometry = pd.Series(polygons, dtype=object)
    return pd.DataFrame({"group": group, "geometry": geometry, "known": known, "total": total})


def _merge(pieces):
    """Return polygons, in columns and rows, and mean confidence of the groups of pieces."""
    grouped = pieces.groupby("group")
    polygons = grouped["geometry"].first()
    torn = pieces[pieces["group"].duplicated(keep=False)]
    for group, geometry in torn.groupby("group")["geometry"]:
        polygons.at[group] = shapely.union_all(geometry.to_numpy())
    sums = grouped[["known", "total"]].sum()
    means = sums["total"] / sums["known"].where(sums["known"] > 0)
    return straighten(polygons.to_numpy(dtype=object)), means.to_numpy(dtype=float)
