"""Rasters of one scene, brought to one grid and read window by window.

A scene may be far larger than memory: `open_scene` reads headers alone, `Scene.read` the pixels of
a window. What lies on another grid is resampled on the way, and a window does not change the values
that are read through it.
"""

import os
import threading
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from pyproj import CRS, Geod, Transformer
from pyproj.exceptions import ProjError
from rasterio.enums import ColorInterp, MaskFlags, Resampling
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.transform import array_bounds
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window

from glavitu.errors import InputError

# GDAL drivers whose files only say where the pixels are: other files, or servers.
INDIRECT = {"VRT", "DERIVED", "GTI", "STACIT", "STACTA", "HTTP", "WCS", "WMS", "WMTS", "OGCAPI"}
INDIRECT |= {"DAAS", "EEDAI", "NGW", "PLMOSAIC"}
MUCH_FINER = 2  # pixels of a source along one of the grid, from which they are averaged
TOLERANCE = 1e-9  # of the positions GDAL interpolates, in pixels; 0 stops rasterio


def open_scene(paths, *, inputs=None, grid=None):
    """Open the rasters of one scene.

    Parameters
    ----------
    paths : dict of str to path
        One local raster per source, such as ``{"optical": "o.tif", "dem": "d.tif"}``; north-up,
        with a CRS, of any grid. Values are used as they are stored.
    inputs : dict of str to int, optional
        Number of bands that a network wants of each source, in its order; what the files hold by
        default. A band marked as transparency counts and is data, as GDAL marks the fourth of many
        files that is none. Where two are wanted of ``dem`` and the file has elevation alone, in
        metres, the second is the slope (see `slope_of`).
    grid : str, optional
        Source whose CRS, pixels and extent are the scene's; "optical" by default, or the first
        source of `paths` where there is no such.

    Returns
    -------
    Scene

    Raises
    ------
    InputError
        For sources other than `inputs` says, a wrong number of bands, or a file that cannot be
        used: missing, remote, virtual, no raster, of complex numbers, without CRS, rotated,
        south-up, or away from the grid.
    """
    rasters = {source: _inspect(path) for source, path in paths.items()}
    _check_sources(rasters, inputs)
    if grid is None:
        grid = "optical" if "optical" in paths else next(iter(paths))
    if grid not in rasters:
        raise InputError(f"there is no {grid!r} to take the grid from; use {_listed(rasters)}")
    layers = {
        source: _plan(source, rasters[source], rasters[grid], (inputs or {}).get(source))
        for source in inputs or rasters
    }
    report = [f"The grid is that of {grid}: {rasters[grid].grid}."]
    report += [sentence for source, layer in layers.items() for sentence in layer.report(source)]
    return Scene(rasters[grid].grid, layers, report)


class Scene:
    """Sources on one grid, made by `open_scene`.

    Threads may read at the same time, and a pickled scene opens its files anew where it is read.

    Attributes
    ----------
    shape : (int, int)
        Rows and columns.
    crs : rasterio.crs.CRS
        Coordinate reference system.
    transform : affine.Affine
        From column and row to coordinates.
    sources : dict of str to int
        Bands of each source.
    report : list of str
        What was done to bring the sources to the grid, in sentences.
    """

    def __init__(self, grid, layers, report):
        self.shape, self.crs, self.transform = grid.shape, grid.crs, grid.transform
        self.sources = {source: layer.bands for source, layer in layers.items()}
        self.report = report
        self._grid, self._layers = grid, layers
        sloping = any(layer.slope for layer in layers.values())
        self._cells = _cell_sizes(grid) if sloping else None
        self._local = threading.local()

    def __reduce__(self):
        return Scene, (self._grid, self._layers, self.report)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Close the files; a later `read` opens them again."""
        self._local = threading.local()

    def read(self, row, column, height, width):
        """Read a window, which may reach beyond the scene.

        Parameters
        ----------
        row, column : int
            First row and column; negative ones lie before the scene.
        height, width : int
            Size of the window, in pixels.

        Returns
        -------
        dict of str to numpy.ndarray
            float32 (height, width, bands) of each source, NaN where it has no data: its nodata
            value, masked or not finite, or beyond its extent or that of the scene. What is
            resampled comes from the pixels with data alone: a gap is narrower by up to half a
            pixel of the source on each side, and wider by as much where pixels that are not finite
            are not its nodata value.

        Raises
        ------
        InputError
            Where a file cannot be read.
        """
        window = row, column, height, width
        return {
            source: self._with_slope(source, *window)
            if layer.slope
            else self._read(source, *window)
            for source, layer in self._layers.items()
        }

    def _with_slope(self, source, row, column, height, width):
        elevation = self._read(source, row - 1, column - 1, height + 2, width + 2)
        rows = np.clip(np.arange(row, row + height), 0, self.shape[0] - 1)
        slope = slope_of(elevation[..., 0], *self._cells[:, rows, None])
        return np.stack([elevation[1:-1, 1:-1, 0], slope], axis=-1)

    def _read(self, source, row, column, height, width):
        layer = self._layers[source]
        array = np.full((height, width, layer.raster.bands), np.nan, np.float32)
        (first, left), (rows, columns) = layer.extent(self._grid)
        top, bottom = max(row, first, 0), min(row + height, first + rows, self.shape[0])
        start, stop = max(column, left, 0), min(column + width, left + columns, self.shape[1])
        if top < bottom and start < stop:
            window = Window(start - left, top - first, stop - start, bottom - top)
            inside = array[top - row : bottom - row, start - column : stop - column]
            inside[:] = np.moveaxis(self._pixels(source, window), 0, -1)
            inside[~np.isfinite(inside)] = np.nan
        return array

    def _pixels(self, source, window):
        """Read a window of what `_Layer.open` returns, as float32 (band, y, x)."""
        layer = self._layers[source]
        opened = self._local.__dict__  # of this thread
        key = os.getpid(), source  # a forked process must not share the position in a file
        try:
            if key not in opened:
                opened[key] = layer.open(self._grid)
            transparent = MaskFlags.alpha in opened[key].mask_flag_enums[0]
            values = opened[key].read(window=window, masked=not transparent)
        except RasterioError as error:
            raise InputError(f"{layer.raster.path} cannot be read: {_line(error)}") from None
        with np.errstate(over="ignore"):
            return np.ma.filled(values.astype(np.float32), np.nan)


def slope_of(elevation, height, width):
    """Slope by the method of Horn (1981, https://doi.org/10.1109/PROC.1981.11918).

    A missing neighbour is taken to continue the plane through the others, so that pixels at the
    edges of the elevation and of its voids have a slope, too; along an axis without any neighbour
    the ground is taken to be level.

    Parameters
    ----------
    elevation : numpy.ndarray
        Elevation (y + 2, x + 2) in metres, with a pixel more on each side; NaN where unknown.
    height, width : float or numpy.ndarray
        Size of the pixels in metres, or of each row (y, 1).

    Returns
    -------
    numpy.ndarray
        Slope (y, x) in degrees, float32; NaN where the elevation is.

    Examples
    --------
    >>> ramp = np.outer(np.ones(4), [0.0, 30, 60, 90])
    >>> print(slope_of(ramp, 30, 30))
    [[45. 45.]
     [45. 45.]]
    """
    rows, columns = elevation.shape
    elevation = elevation.astype(np.float64)

    def shifted(down, right):
        return elevation[1 + down : rows - 1 + down, 1 + right : columns - 1 + right]

    centre = shifted(0, 0)

    def side(down, right):
        opposite = _filled(2 * centre - shifted(-down, -right), centre)
        return _filled(shifted(down, right), opposite)

    north, south, west, east = side(-1, 0), side(1, 0), side(0, -1), side(0, 1)
    northwest = _filled(shifted(-1, -1), north + west - centre)
    northeast = _filled(shifted(-1, 1), north + east - centre)
    southwest = _filled(shifted(1, -1), south + west - centre)
    southeast = _filled(shifted(1, 1), south + east - centre)
    down = southwest + 2 * south + southeast - northwest - 2 * north - northeast
    right = northeast + 2 * east + southeast - northwest - 2 * west - southwest
    slope = np.degrees(np.arctan(np.hypot(down / (8 * height), right / (8 * width))))
    return np.where(np.isnan(centre), np.nan, slope).astype(np.float32)


def _filled(values, others):
    return np.where(np.isnan(values), others, values)


@dataclass(frozen=True)
class _Grid:
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
        return f"{' x '.join(sides)} {'m' if unit == 'metre' else unit} in {_crs_name(self.crs)}"


@dataclass(frozen=True)
class _Raster:
    """What the header of a file says; `alpha` is the number of a band marked as such, or None."""

    path: str
    grid: _Grid
    bands: int
    alpha: int | None


@dataclass(frozen=True)
class _Layer:
    """How a raster comes to the scene's grid.

    `method` is None where its pixels are those of the grid, from `offset` (row, column) on.
    """

    raster: _Raster
    slope: bool
    method: Resampling | None
    offset: tuple = (0, 0)

    @property
    def bands(self):
        return self.raster.bands + self.slope

    def extent(self, grid):
        """First row and column on the grid, and size, of what `open` returns."""
        return self.offset, (grid if self.method else self.raster.grid).shape

    def open(self, grid):
        dataset = rasterio.open(self.raster.path, sharing=False)
        if self.method is None:
            return dataset
        nodata, flags = dataset.nodata, dataset.mask_flag_enums[0]
        if MaskFlags.all_valid in flags and np.dtype(dataset.dtypes[0]).kind == "f":
            nodata = np.nan  # else one such pixel would blank those around it
        return WarpedVRT(
            dataset,
            crs=grid.crs,
            transform=grid.transform,
            height=grid.shape[0],
            width=grid.shape[1],
            resampling=self.method,
            tolerance=TOLERANCE,
            src_nodata=nodata,
            nodata=np.nan,
            dtype="float32",
            UNIFIED_SRC_NODATA="NO",  # a pixel may lack one band alone
            XSCALE=1,  # GDAL's guess of either depends on the window
            YSCALE=1,
        )

    def report(self, source):
        if self.method:
            how = "averaged" if self.method == Resampling.average else "interpolated bilinearly"
            yield f"{source} was {how} from {self.raster.grid.spacing}."
        if self.slope:
            yield f"The slope was computed from the elevation of {source} on the grid."


def _inspect(path):
    """Read the header of a raster and refuse what cannot be used."""
    if "://" in str(path) or str(path).startswith("/vsi"):
        raise InputError(f"{path} is not a local file; download it first")
    path = Path(path).resolve()
    if not path.is_file():
        raise InputError(f"no raster at {path}")
    indirect = f"{path} only refers to other rasters; convert it to a GeoTIFF"
    with open(path, "rb") as file:
        # GDAL would follow its references already when it opens it.
        if b"<VRTDataset" in file.read(1024):
            raise InputError(indirect)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(path, sharing=False) as dataset:
                if dataset.driver in INDIRECT:
                    raise InputError(indirect)
                return _header(path, dataset)
    except RasterioError as error:
        raise InputError(f"{path} is not a raster GDAL can read: {_line(error)}") from None


def _header(path, dataset):
    if not dataset.count or not all(dataset.shape):
        raise InputError(f"{path} has no pixels of its own; convert one of its parts to a GeoTIFF")
    if any("complex" in dtype for dtype in dataset.dtypes):
        raise InputError(f"{path} holds complex numbers; convert them, as to backscatter in dB")
    crs, transform = dataset.crs, dataset.transform
    if not crs or not (crs.is_geographic or crs.is_projected):
        raise InputError(
            f"{path} has no CRS to place it by; assign it, as with gdal_edit.py -a_srs"
        )
    if transform.b or transform.d or transform.a <= 0 or transform.e >= 0:
        raise InputError(
            f"{path} is rotated or not north-up ({tuple(transform)[:6]}); warp it first"
        )
    bands = zip(dataset.indexes, dataset.colorinterp, strict=True)
    alpha = next((band for band, meaning in bands if meaning == ColorInterp.alpha), None)
    return _Raster(str(path), _Grid(crs, transform, dataset.shape), dataset.count, alpha)


def _check_sources(rasters, inputs):
    if not rasters:
        raise InputError("a scene needs at least one raster")
    if inputs is None:
        return
    for source in inputs:
        if source not in rasters:
            raise InputError(f"no raster of {source!r} was given; expected {_listed(inputs)}")
    for source, raster in rasters.items():
        if source not in inputs:
            raise InputError(f"{raster.path}: {source!r} is not used; expected {_listed(inputs)}")
        if raster.bands != inputs[source] and not _lacks_slope(source, raster, inputs[source]):
            raise InputError(
                f"{raster.path}: {source!r} has {raster.bands} band(s), expected {inputs[source]}"
            )


def _lacks_slope(source, raster, bands):
    return source == "dem" and raster.bands == 1 and bands == 2


def _plan(source, raster, reference, bands):
    """Choose how a raster comes to the grid of the raster `reference`."""
    slope = _lacks_slope(source, raster, bands)
    offset = _offset(raster.grid, reference.grid)
    if not _meet(reference.grid, raster.grid):
        raise InputError(
            f"{raster.path} does not overlap {reference.path}; give rasters of one place"
        )
    if offset is not None:
        return _Layer(raster, slope, None, offset)
    if raster.alpha:
        raise InputError(
            f"band {raster.alpha} of {raster.path} is marked as transparency, so that it cannot be "
            f"resampled; drop it, or mark it as data: gdal_edit.py -colorinterp_{raster.alpha} gray"
        )
    finer = _pixels_per_pixel(raster, reference.grid) >= MUCH_FINER
    return _Layer(raster, slope, Resampling.average if finer else Resampling.bilinear)


def _offset(inner, grid):
    """Row and column of the grid where `inner` begins, None where their pixels differ."""
    corners = np.array([(0, 0), grid.shape])
    rows, columns = corners.T
    shifts = corners - _rows_and_columns(inner, *_coordinates(grid, rows, columns))
    whole = shifts[0].round()
    if inner.crs != grid.crs or np.abs(shifts - whole).max() > 0.01:
        return None
    return tuple(whole.astype(int).tolist())


def _meet(one, other):
    """Whether the extent of one grid, in the CRS of the other, meets the other's."""
    to_other = _transformer(one.crs, other.crs)
    try:
        left, bottom, right, top = to_other.transform_bounds(*one.bounds)
    except ProjError:
        return False
    west, south, east, north = other.bounds
    sides = west < right, left < east
    across = any(sides) if left > right else all(sides)  # the former over the antimeridian
    return across and south < top and bottom < north


def _pixels_per_pixel(raster, grid):
    """Pixels of a raster along one pixel in the middle of the grid."""
    steps = np.array([(0, 0), (1, 0), (0, 1)]) + np.array(grid.shape) // 2
    x, y = _transformer(grid.crs, raster.grid.crs).transform(*_coordinates(grid, *steps.T))
    if not np.isfinite((x, y)).all():
        raise InputError(f"{raster.path} cannot be brought to {_crs_name(grid.crs)}; warp it first")
    corners = _rows_and_columns(raster.grid, x, y)
    return abs(np.linalg.det(corners[1:] - corners[0])) ** 0.5


def _cell_sizes(grid):
    """Height and width in metres, on the ellipsoid, of the middle pixel of each row: (2, rows)."""
    rows, middle = np.arange(grid.shape[0]) + 0.5, np.full(grid.shape[0], grid.shape[1] / 2)
    to_degrees = _transformer(grid.crs, "EPSG:4326")

    def length(down, right):
        ends = (
            to_degrees.transform(*_coordinates(grid, rows + half * down, middle + half * right))
            for half in (-0.5, 0.5)
        )
        return Geod(ellps="WGS84").inv(*next(ends), *next(ends))[2]

    return np.stack([length(1, 0), length(0, 1)])


def _coordinates(grid, rows, columns):
    """Coordinates x, y of rows and columns, counted from the corner of the grid."""
    a, _, c, _, e, f = grid.transform[:6]
    return c + a * columns, f + e * rows


def _rows_and_columns(grid, x, y):
    """Row and column (n, 2) of coordinates."""
    a, _, c, _, e, f = grid.transform[:6]
    return np.stack([(y - f) / e, (x - c) / a], axis=-1)


def _transformer(crs, to):
    wkt = [each if isinstance(each, str) else each.to_wkt() for each in (crs, to)]
    return Transformer.from_crs(*wkt, always_xy=True)


def _crs_name(crs):
    return ":".join(crs.to_authority() or ()) or CRS.from_wkt(crs.to_wkt()).name


def _listed(names):
    return ", ".join(map(repr, names))


def _line(error):
    return " ".join(str(error).split())
