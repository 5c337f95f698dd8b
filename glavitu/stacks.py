"""The rasters of one scene, stacked on one grid and read window by window.

A scene may be far larger than memory: `open_scene` reads headers alone, `Scene.read` the pixels of
a window. What lies on another grid is resampled on the way, and a window does not change the values
that are read through it.
"""

import os
import threading

import numpy as np
from rasterio.errors import RasterioError
from rasterio.windows import Window

from glavitu.bands import are_numbered, complete_names, usual_grid
from glavitu.errors import InputError
from glavitu.grids import cell_sizes
from glavitu.local_rasters import first_line, has_nodata
from glavitu.rasters import check_sources, inspect, listed, plan
from glavitu.units import factor_of_dem, in_declared_units


def open_scene(paths, *, inputs=None, grid=None, nodata=None, factors=None, names=None):
    """Open the rasters of one scene.

    Parameters
    ----------
    paths : dict of str to path
        One local raster per source, such as ``{"optical": "o.tif", "dem": "d.tif"}``; north-up,
        with a CRS, of any grid. Scales and offsets that they declare are applied.
    inputs : dict of str to int, optional
        Number of bands that a network wants of each source, in its order; what the files hold by
        default. A band marked as transparency is treated as data: GDAL marks the fourth band of
        many files so, although it is not. Where two are wanted of ``dem`` and the file has
        elevation alone, in metres, the second is the slope (see `slope_of`).
    grid : str, optional
        Source whose CRS, pixels and extent are the scene's; "optical" by default, or the first
        source of `paths` where there is no such.
    nodata : dict of str to float, optional
        Source -> value that means no data in its raster, as it is stored, beside what the raster
        itself declares.
    factors : dict of str to float, optional
        Source -> what its values are multiplied by to be in the training data's units. Where the
        slope is computed, it is that of the elevation in metres; `Scene.read` does not multiply.
    names : dict of str to list of str, optional
        Source -> what its bands are called if its raster does not name them.

    Returns
    -------
    Scene

    Raises
    ------
    InputError
        For sources other than `inputs` and `paths` say, a wrong number of bands, or a file that
        cannot be used: missing, remote, virtual, no raster, of complex numbers, without CRS,
        rotated, south-up, or away from the grid.
    """
    rasters = {source: inspect(path) for source, path in paths.items()}
    check_sources(rasters, inputs)
    if grid is None:
        grid = usual_grid(paths)
    if grid not in rasters:
        raise InputError(f"there is no {grid!r} to take the grid from; use {listed(rasters)}")
    nodata = nodata or {}
    if unknown := [source for source in nodata if source not in rasters]:
        raise InputError(f"nodata of {unknown[0]!r}, expected one of {listed(rasters)}")
    layers = {
        source: plan(
            source,
            rasters[source],
            rasters[grid],
            (inputs or {}).get(source),
            nodata.get(source),
        )
        for source in inputs or rasters
    }
    report = [f"The grid is that of {grid}: {rasters[grid].grid}{_in_metres(rasters[grid].grid)}."]
    report += [sentence for source, layer in layers.items() for sentence in layer.report(source)]
    names = {source: (names or {}).get(source, ()) for source in layers}
    for source, called in names.items():
        raster = layers[source].raster
        if raster.bands > 1 and not raster.names and not are_numbered(called):
            report.append(f"{source} does not name its bands; taken for {', '.join(called)}.")
    return Scene(rasters[grid].grid, layers, report, factor_of_dem(factors or {}), names)


def _in_metres(grid):
    """Say what pixels in degrees are on the ground; nothing of others."""
    if not grid.crs.is_geographic:
        return ""
    height, width, _ = cell_sizes(grid, grid.shape[0] / 2, grid.shape[1] / 2)[:, 0]
    return (
        f", {height:.3g} m high and {width:.3g} m wide in the middle; they are mapped as they are, "
        "but networks expect square pixels in metres"
    )


class Scene:
    """Sources on one grid, made by `open_scene`.

    Threads may read at the same time, and a pickled scene opens its files anew where it is read.

    Attributes
    ----------
    grid : Grid
        Where its pixels lie, which the next three say, too.
    shape : (int, int)
        Rows and columns.
    crs : rasterio.crs.CRS
        Coordinate reference system.
    transform : affine.Affine
        From column and row to coordinates.
    sources : dict of str to int
        Bands of each source.
    band_names : dict of str to list of str
        What the bands of each source are called: as their rasters say or as in the published data.
    units : dict of str to (tuple, tuple)
        Scales and offsets of each source's bands, as declared and applied.
    report : list of str
        What was done to bring the sources to the grid, in sentences.
    """

    def __init__(self, grid, layers, report, elevation_factor, names):
        self.shape, self.crs, self.transform = grid.shape, grid.crs, grid.transform
        self.sources = {source: layer.bands for source, layer in layers.items()}
        said = {source: layer.raster.names or names[source] for source, layer in layers.items()}
        self.band_names = complete_names(said, self.sources, "the rasters")
        self.units = {source: layer.units for source, layer in layers.items()}
        self.report = report
        self.grid, self._layers = grid, layers
        self._factor, self._names = elevation_factor, names
        sloping = any(layer.slope for layer in layers.values())
        middles = np.arange(grid.shape[0]) + 0.5, grid.shape[1] / 2
        self._cells = cell_sizes(grid, *middles) if sloping else None
        self._local = threading.local()

    def __reduce__(self):
        return Scene, (self.grid, self._layers, self.report, self._factor, self._names)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Close the files; a later `read` opens them again."""
        self._local = threading.local()

    def read(self, row, column, height, width, sources=None):
        """Read a window, which may reach beyond the scene.

        Parameters
        ----------
        row, column : int
            First row and column; negative ones lie before the scene.
        height, width : int
            Size of the window, in pixels.
        sources : iterable of str, optional
            What to read, by default every source.

        Returns
        -------
        dict of str to numpy.ndarray
            float32 (height, width, bands) of each source, NaN where it has no data: its nodata
            value, masked or not finite, or beyond its extent or that of the scene. Resampling
            uses only pixels with data, so gaps shrink by up to half a pixel of the source on each
            side; around NaN or infinite pixels that are not the declared nodata value they grow by
            as much.

        Raises
        ------
        InputError
            Where a file cannot be read.
        """
        window = row, column, height, width
        return {
            source: self._with_slope(source, *window)
            if self._layers[source].slope
            else self._read(source, *window)
            for source in sources or self._layers
        }

    def _with_slope(self, source, row, column, height, width):
        elevation = self._read(source, row - 1, column - 1, height + 2, width + 2)
        rows = np.clip(np.arange(row, row + height), 0, self.shape[0] - 1)
        slope = slope_of(self._factor * elevation[..., 0], *self._cells[:, rows, None])
        return np.stack([elevation[1:-1, 1:-1, 0], slope], axis=-1)

    def _read(self, source, row, column, height, width):
        layer = self._layers[source]
        array = np.full((height, width, layer.raster.bands), np.nan, np.float32)
        (first, left), (rows, columns) = layer.extent(self.grid)
        top, bottom = max(row, first, 0), min(row + height, first + rows, self.shape[0])
        start, stop = max(column, left, 0), min(column + width, left + columns, self.shape[1])
        if top < bottom and start < stop:
            window = Window(start - left, top - first, stop - start, bottom - top)
            inside = array[top - row : bottom - row, start - column : stop - column]
            inside[:] = np.moveaxis(self._pixels(source, window), 0, -1)
            inside[~np.isfinite(inside)] = np.nan
        return array

    def _pixels(self, source, window):
        """Read a window of what `Layer.open` returns, as float32 (band, y, x)."""
        layer = self._layers[source]
        opened = self._local.__dict__  # of this thread
        key = os.getpid(), source  # a forked process must not share the position in a file
        try:
            if key not in opened:
                opened[key] = layer.open(self.grid)
            values = opened[key].read(window=window, masked=has_nodata(opened[key]))
            if layer.method is None and layer.nodata is not None:
                values = np.ma.masked_where(_is_nodata(values, layer.nodata), values)
        except RasterioError as error:
            raise InputError(f"{layer.raster.path} cannot be read: {first_line(error)}") from None
        with np.errstate(over="ignore", invalid="ignore"):
            values = in_declared_units(values, layer.raster.scales, layer.raster.offsets)
        return np.ma.filled(values, np.nan)


def _is_nodata(values, nodata):
    """Tell where values are a number; a number of more digits than theirs is first rounded."""
    with np.errstate(over="ignore"):
        return values == (values.dtype.type(nodata) if values.dtype.kind == "f" else nodata)


def slope_of(elevation, height, width, skew=0):
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
    skew : float or numpy.ndarray
        Cosine of the angle between height and width, 0 where that is a right one, or of each row.

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
    down, right = down / (8 * height), right / (8 * width)
    steepness = np.sqrt((down**2 + right**2 - 2 * skew * down * right) / (1 - skew**2))
    return np.where(np.isnan(centre), np.nan, np.degrees(np.arctan(steepness))).astype(np.float32)


def _filled(values, others):
    return np.where(np.isnan(values), others, values)
