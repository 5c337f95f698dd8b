"""Where pixels lie: grids of rasters, how two of them lie to each other, and their sizes."""

from dataclasses import dataclass

import numpy as np
import rasterio
from pyproj import CRS, Geod, Transformer
from pyproj.exceptions import ProjError
from rasterio.transform import array_bounds

EDGE = 1000  # points along each edge of a grid, between which it is taken to be straight


@dataclass(frozen=True)
class Grid:
    """Where the pixels of a raster lie."""

    crs: rasterio.crs.CRS
    transform: rasterio.Affine
    shape: tuple

    @property
    def bounds(self):
        return array_bounds(*self.shape, self.transform)

    def __str__(self):
        return f"{self.shape[0]} x {self.shape[1]} pixels of {self.spacing}"

    @property
    def spacing(self):
        """Size of the pixels and CRS in words."""
        sides = dict.fromkeys(f"{side:g}" for side in (self.transform.a, -self.transform.e))
        unit = "degrees" if self.crs.is_geographic else self.crs.linear_units
        return f"{' x '.join(sides)} {'m' if unit == 'metre' else unit} in {crs_name(self.crs)}"


def place_in(inner, grid):
    """Row and column of the grid where `inner` begins, None where their pixels differ."""
    corners = np.array([(0, 0), grid.shape])
    rows, columns = corners.T
    shifts = corners - _rows_and_columns(inner, *_coordinates(grid, rows, columns))
    whole = shifts[0].round()
    if inner.crs != grid.crs or np.abs(shifts - whole).max() > 0.01:
        return None
    return tuple(whole.astype(int).tolist())


def differ_by_a_turn(inner, grid):
    """Tell whether part of a raster lies on the grid only if longitudes are taken modulo 360.

    GDAL does not take them so: it looks for what is at 190 degrees east at 170 west. A hundredth
    of the grid is no matter: rasters of the whole world often begin half a pixel before 180.
    """
    if not inner.crs.is_geographic:
        return False
    (west, _, east, _), (left, _, right, _) = inner.bounds, _bounds_in(grid, inner.crs)
    spans = [(left, right)] if left <= right else [(left, 180), (-180, right)]
    beyond = [(max(east, west + 360), east + 360), (west - 360, min(west, east - 360))]
    return any(
        min(right, end) - max(left, start) > (right - left) / 100
        for left, right in spans
        for start, end in beyond
    )


def _bounds_in(grid, crs):
    """Return west, south, east and north of a grid in another CRS, NaN where it is not there.

    In degrees, west is more than east where the grid lies across 180.
    """
    try:
        bounds = _transformer(grid.crs, crs).transform_bounds(*grid.bounds, densify_pts=EDGE)
    except ProjError:
        bounds = [np.nan]
    return bounds if np.isfinite(bounds).all() else [np.nan] * 4


def meet(grid, boxes, crs):
    """Tell which boxes (n, 4), west, south, east and north in a CRS, the extent of a grid meets."""
    west, south, east, north = np.transpose(boxes)
    left, bottom, right, top = _bounds_in(grid, crs)
    across = (west < right) & (left < east)
    if crs.is_geographic:  # longitudes may go on beyond 180, and `left` be more than `right`
        width, ahead = right - left + 360 * (left > right), (west - left) % 360
        across = (ahead < width) | (ahead + east - west > 360)
    return across & (south < top) & (bottom < north)


def pixels_per_pixel(inner, grid):
    """Return how many pixels of a raster lie along one in the middle of the grid, or NaN."""
    steps = np.array([(0, 0), (1, 0), (0, 1)]) + np.array(grid.shape) // 2
    x, y = _transformer(grid.crs, inner.crs).transform(*_coordinates(grid, *steps.T))
    if not np.isfinite((x, y)).all():
        return np.nan
    corners = _rows_and_columns(inner, x, y)
    return abs(np.linalg.det(corners[1:] - corners[0])) ** 0.5


def cell_sizes(grid, rows, columns):
    """Height, width and skew (3, n), on the ellipsoid, of pixels centred at rows and columns.

    Rows and columns are counted from the corner of the grid. Height and width are in metres; the
    skew is the cosine of the angle between them, which is 0 in most projections.
    """
    rows, columns = np.broadcast_arrays(np.atleast_1d(rows), columns)
    to_degrees, inv = _transformer(grid.crs, "EPSG:4326"), Geod(ellps="WGS84").inv

    def side(down, right):
        start, middle, end = (
            to_degrees.transform(*_coordinates(grid, rows + half * down, columns + half * right))
            for half in (-0.5, 0, 0.5)
        )
        return inv(*start, *end)[2], inv(*middle, *end)[0]

    (height, south), (width, east) = side(1, 0), side(0, 1)
    return np.stack([height, width, np.cos(np.radians(south - east))])


def pixel_size(grid):
    """Side in metres of a square as large as the pixel in the middle of the grid."""
    height, width, skew = cell_sizes(grid, grid.shape[0] / 2, grid.shape[1] / 2)[:, 0]
    return float(np.sqrt(height * width * np.sqrt(1 - skew**2)))


def _coordinates(grid, rows, columns):
    """Coordinates x, y of rows and columns, counted from the corner of the grid."""
    a, _, c, _, e, f = grid.transform[:6]
    return c + a * columns, f + e * rows


def _rows_and_columns(grid, x, y):
    """Row and column (n, 2) of coordinates."""
    a, _, c, _, e, f = grid.transform[:6]
    return np.stack([(y - f) / e, (x - c) / a], axis=-1)


def _transformer(crs, to):
    return Transformer.from_crs(_horizontal(crs), _horizontal(to), always_xy=True)


def _horizontal(crs):
    """Return a CRS, or of one with heights, too, what is not of heights."""
    crs = CRS.from_user_input(crs if isinstance(crs, str) else crs.to_wkt())
    return crs.sub_crs_list[0] if crs.is_compound else crs


def crs_name(crs):
    """Return the code of a CRS, such as EPSG:32632, or its name."""
    return ":".join(crs.to_authority() or ()) or CRS.from_wkt(crs.to_wkt()).name
