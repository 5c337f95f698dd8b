"""Areas of polygons on the ellipsoid, and polygons in another CRS with the edges they had."""

import numpy as np
import shapely
from pyproj import CRS, Transformer

from glavitu.errors import InputError

SEGMENTS = 200  # edges that are bent are no longer than this part of their polygon's extent
STRAIGHT = 0.001, 100.0  # degrees, or metres, up to which an edge stays straight


def geodesic_area(geometries, crs):
    """Return the areas in km2 of polygons on the WGS84 ellipsoid, holes taken off.

    Edges are straight in `crs`: a box in longitude and latitude has sides along parallels. A
    polygon over the antimeridian in degrees has longitudes beyond 180 (or below -180).

    Parameters
    ----------
    geometries : sequence of shapely geometries
        Polygons or multipolygons of any orientation.
    crs : any description of a CRS that pyproj knows
        The CRS of their coordinates.

    Returns
    -------
    ndarray of shape (number of geometries,)

    Raises
    ------
    InputError
        Where coordinates lie outside what the CRS can describe.

    Notes
    -----
    The plane area of densified edges in the equal-area projection about the nearer pole.

    Examples
    --------
    >>> cell = shapely.box(0, 60, 1, 61)
    >>> geodesic_area([cell], "EPSG:4326").round(1)
    array([6123.1])
    """
    geometries = np.asarray(geometries, dtype=object)
    west, south, east, north = shapely.bounds(geometries).reshape(-1, 4).T
    to_degrees = Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    _, latitudes = to_degrees.transform((west + east) / 2, (south + north) / 2)
    areas = np.empty(len(geometries))
    for half, pole in ((latitudes >= 0, 90), (~(latitudes >= 0), -90)):
        plane = f"+proj=laea +lat_0={pole} +lon_0=0 +datum=WGS84 +units=m"
        areas[half] = shapely.area(project(geometries[half], crs, plane)) / 1e6
    return areas


def project(geometries, crs, target):
    """Return geometries in the CRS `target`; straight edges in `crs` bend as they do there.

    Raises `InputError` where coordinates lie outside what one of the two can describe.
    """
    geometries = np.asarray(geometries, dtype=object)
    west, south, east, north = shapely.bounds(geometries).reshape(-1, 4).T
    straight = STRAIGHT[0] if CRS.from_user_input(crs).is_geographic else STRAIGHT[1]
    lengths = np.fmax(np.maximum(east - west, north - south) / SEGMENTS, straight)
    transformer = Transformer.from_crs(crs, target, always_xy=True)
    projected = shapely.transform(
        shapely.segmentize(geometries, lengths),
        lambda points: np.column_stack(transformer.transform(*points.T)),
    )
    if not np.isfinite(shapely.get_coordinates(projected)).all():
        raise InputError(
            f"coordinates {west.min():g} {south.min():g} to {east.max():g} {north.max():g} do not "
            f"fit the CRS {CRS.from_user_input(crs).name!r}; give the outlines their true CRS"
        )
    return projected
