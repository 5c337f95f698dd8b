"""Outlines of glaciers that others drew: read from files, checked, and found about a scene."""

import hashlib
import warnings
from pathlib import Path

import geopandas as gpd
import numpy as np
import shapely
from pyproj import Transformer
from pyproj.exceptions import ProjError
from shapely.errors import GEOSException

from glavitu.errors import InputError
from glavitu.grids import meet

NAMES = ("RGIId", "rgi_id", "glac_id", "id", "Name")  # columns that tell glaciers apart
FARTHEST = 1e9  # coordinates beyond are no place in any CRS
# How files of outlines begin: GeoPackage, Shapefile, GeoJSON, FlatGeobuf. Formats that refer to
# other files or servers are not opened.
MAGIC = (b"SQLite format 3", b"\0\0\x27\x0a", b"{", b"fgb\x03")


def read_outlines(path):
    """Read outlines from a vector file: the first layer that has geometries.

    Parameters
    ----------
    path : str or Path
        A file on this machine that geopandas can open (GeoPackage, Shapefile, GeoJSON, ...).

    Returns
    -------
    geopandas.GeoDataFrame

    Raises
    ------
    InputError
        For a path that is no file, such as a folder or an address, and for a file without
        geometries.
    """
    text = str(path)
    if text.startswith("/vsi") or ":/" in text:
        raise InputError(f"{path} is not a file on this machine; download it first")
    if not Path(path).is_file():
        raise InputError(f"no file of outlines at {path}")
    with open(path, "rb") as file:
        if not file.read(1024).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(MAGIC):
            raise InputError(
                f"{path} is not a vector file to compare with; expected GeoPackage, Shapefile, "
                "GeoJSON or FlatGeobuf"
            )
    try:
        with warnings.catch_warnings(action="ignore", category=RuntimeWarning):  # of GDAL
            return _read(path)
    except RuntimeError as error:  # of which all errors of pyogrio are made
        reason = " ".join(str(error).split())
        raise InputError(f"{path} is not a vector file GDAL can read: {reason}") from None
    except GEOSException as error:
        raise InputError(f"{path} has a broken geometry: {error}; mend it in a GIS") from None


def content_of(path):
    """Return a digest of outlines, whatever else their file holds; None where it is damaged."""
    try:
        outlines = read_outlines(path)
    except InputError:
        return None
    digest = hashlib.sha256(outlines.drop(columns="geometry").to_csv().encode())
    digest.update(b"".join(shapely.to_wkb(outlines.geometry.to_numpy())))
    return digest.hexdigest()[:16]


def _read(path):
    file = Path(path).resolve()
    layers = gpd.list_layers(file)
    layers = layers[layers["geometry_type"].notna()]
    if layers.empty:
        raise InputError(f"{path} has no geometries; expected outlines of glaciers")
    return gpd.read_file(file, layer=layers["name"].iloc[0], engine="pyogrio")


def about(grid, outlines):
    """Return those outlines of an inventory whose extents meet that of a scene; there may be none.

    Parameters
    ----------
    grid : Grid
        Where the pixels of the scene lie.
    outlines : geopandas.GeoDataFrame
        Of a whole region, say, in any CRS.

    Returns
    -------
    geopandas.GeoDataFrame
        Their rows, with what is polygon of them.

    Raises
    ------
    InputError
        For outlines that are no reference: see `polygons_in`.
    """
    glaciers = polygons_in(outlines)
    return glaciers[meet(grid, glaciers.bounds.to_numpy(), glaciers.crs)]


def polygons_in(reference):
    """Return the rows of a reference that hold polygons, and only what is polygon of them.

    Raises `InputError` for a reference without CRS, with rows of which none holds polygons, or with
    a corner that is no place.
    """
    check_crs(reference, "reference")
    kinds = ["Polygon", "MultiPolygon", "GeometryCollection"]  # the last of what was made valid
    glaciers = reference[reference.geom_type.isin(kinds)]
    glaciers = glaciers.set_geometry(polygonal(glaciers.geometry.to_numpy()), crs=reference.crs)
    glaciers = glaciers[~glaciers.is_empty]
    if glaciers.empty and len(reference):
        raise InputError("the reference has no polygons; expected outlines of glaciers")
    points, index = shapely.get_coordinates(glaciers.geometry, return_index=True)
    wrong = ~(np.abs(points) <= FARTHEST).all(axis=1)
    if wrong.any():
        name = names_of(glaciers)[index[wrong.argmax()]]
        raise InputError(
            f"the outline of glacier {name} in the reference has a corner at "
            f"{tuple(points[wrong.argmax()].tolist())}, which is no place; mend it in a GIS"
        )
    return glaciers


def check_crs(outlines, what):
    """Refuse outlines that do not say where on Earth they lie."""
    if outlines.crs is None:
        raise InputError(f"the {what} outlines have no CRS; set it, e.g. with frame.set_crs")
    try:
        Transformer.from_crs(outlines.crs, "EPSG:4326")
    except ProjError:
        raise InputError(
            f"the {what} outlines have the CRS {outlines.crs.name!r}, which is of no place on "
            "Earth; set it, e.g. with frame.set_crs(..., allow_override=True)"
        ) from None


def names_of(glaciers):
    """Return what glaciers are called: the first of `NAMES` that is not empty, or their index."""
    named = (column for column in NAMES if column in glaciers and glaciers[column].notna().any())
    name = next(named, None)
    return np.asarray(glaciers.index if name is None else glaciers[name])


def polygonal(geometries):
    """Return what is polygon of valid geometries."""
    geometries = geometries.copy()
    mixed = ~np.isin(shapely.get_type_id(geometries), (3, 6))
    geometries[mixed] = shapely.buffer(geometries[mixed], 0)  # drops lines and points
    return geometries
