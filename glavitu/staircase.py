"""Polygons traced along pixels: needless vertices dropped, corners of the staircase cut.

Coordinates are columns and rows of the raster until `on_map`.
"""

import numpy as np
import shapely

from glavitu.grids import cell_sizes

AREA_CHANGE = 0.01  # share of a polygon's area that smoothing may add or take


def straighten(polygons):
    """Drop vertices between two edges of the same direction, which seams leave behind."""
    points, (rings, parts) = _rings_of(polygons)
    before, after = _neighbours(points, rings)
    inward, outward = points - points[before], points[after] - points
    turns = inward[:, 0] * outward[:, 1] != inward[:, 1] * outward[:, 0]
    return _polygons_of(points[turns], np.append(0, np.cumsum(turns))[rings], parts)


def cuts_of(polygons, grid, distance):
    """Return how far (polygon, 2) to cut corners along columns and rows, in pixels.

    `distance` is in metres; no corner is cut by more than a pixel. Cuts are rounded to hundredths,
    so that those of nearly half a pixel meet.
    """
    left, top, right, bottom = shapely.bounds(polygons).reshape(-1, 4).T
    height, width, _ = cell_sizes(grid, (top + bottom) / 2, (left + right) / 2)
    pixel = np.maximum(np.column_stack([width, height]), 1e-6)  # narrower ones are at a pole
    return np.minimum(distance / pixel, 1.0).round(2)


def smooth(polygons, cuts):
    """Cut corners as far as areas stay within 1 % and polygons valid."""
    smoothed, cuts = polygons.copy(), cuts.copy()
    todo = np.flatnonzero((cuts > 0).all(axis=1))
    while len(todo):
        new = _cut_corners(polygons[todo], cuts[todo])
        change = shapely.area(new) / shapely.area(polygons[todo]) - 1
        good = shapely.is_valid(new) & (np.abs(change) <= AREA_CHANGE)
        smoothed[todo[good]] = new[good]
        todo = todo[~good]
        cuts[todo] *= 0.7
        todo = todo[(cuts[todo] > 0.01).any(axis=1)]  # less than that would not be seen
    return smoothed


def _cut_corners(polygons, cuts):
    """Replace each corner of polygons with edges along rows and columns by two points."""
    points, (rings, parts) = _rings_of(polygons)
    cuts = np.repeat(cuts, np.diff(rings[parts]), axis=0)
    corners = []
    for neighbour in _neighbours(points, rings):
        edge = points[neighbour] - points
        corners.append(points + np.clip(edge / 2, -cuts, cuts))
    points = np.stack(corners, axis=1).reshape(-1, 2)
    _, after = _neighbours(points, 2 * rings)
    differs = (points != points[after]).any(axis=1)  # two cuts meet halfway along an edge
    return _polygons_of(points[differs], np.append(0, np.cumsum(differs))[2 * rings], parts)


def _rings_of(polygons):
    """Return the points of all rings, not closed, where rings begin, and polygons in them."""
    if not len(polygons):
        return np.empty((0, 2)), (np.zeros(1, int), np.zeros(1, int))
    _, points, (rings, parts) = shapely.to_ragged_array(polygons)
    return np.delete(points, rings[1:] - 1, axis=0), (rings - np.arange(len(rings)), parts)


def _neighbours(points, rings):
    """Return for each point of unclosed rings the indices of the points before and after it."""
    before, after = np.arange(len(points)) - 1, np.arange(len(points)) + 1
    before[rings[:-1]] = rings[1:] - 1
    after[rings[1:] - 1] = rings[:-1]
    return before, after


def _polygons_of(points, rings, parts):
    """Return the polygons of what `_rings_of` returns."""
    if len(parts) == 1:
        return np.empty(0, object)
    closed = np.insert(points, rings[1:], points[rings[:-1]], axis=0)
    offsets = (rings + np.arange(len(rings)), parts)
    return shapely.from_ragged_array(shapely.GeometryType.POLYGON, closed, offsets)


def on_map(polygons, transform):
    """Return polygons in columns and rows as polygons in the CRS of the raster."""
    scale, origin = (transform.a, transform.e), (transform.c, transform.f)
    return shapely.normalize(shapely.transform(polygons, lambda points: points * scale + origin))
