"""What lies where: headers of rasters, and how each is brought to a scene's grid."""

from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import Element, SubElement, tostring

import numpy as np
import rasterio
from pyproj import CRS, Geod, Transformer
from pyproj.exceptions import ProjError
from rasterio.dtypes import dtype_rev, typename_fwd
from rasterio.enums import ColorInterp, MaskFlags, Resampling
from rasterio.transform import array_bounds
from rasterio.vrt import WarpedVRT

from glavitu.bands import check_count
from glavitu.errors import InputError
from glavitu.local_rasters import check_bands, check_crs, check_north_up, open_local
from glavitu.profiles import are_names

MUCH_FINER = 2  # pixels of a source along one of the grid, from which they are averaged
EDGE = 1000  # points along each edge of a grid, between which it is taken to be straight
TOLERANCE = 1e-9  # of the positions GDAL interpolates, in pixels; 0 stops rasterio


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
        return f"{' x '.join(sides)} {'m' if unit == 'metre' else unit} in {_crs_name(self.crs)}"


@dataclass(frozen=True)
class Raster:
    """What the header of a file says.

    `alpha` is the number of a band marked as such, or None; `names` are those of the bands, if each
    has its own.
    """

    path: str
    grid: Grid
    bands: int
    alpha: int | None
    names: tuple


@dataclass(frozen=True)
class Layer:
    """How a raster comes to the scene's grid.

    `method` is None where its pixels are those of the grid, from `offset` (row, column) on;
    `nodata` is a value that means no data beside what the file declares, or None.
    """

    raster: Raster
    slope: bool
    method: Resampling | None
    offset: tuple = (0, 0)
    nodata: float | None = None

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
        if self.nodata is not None:
            dataset, nodata = _with_nodata(dataset, self.nodata, nodata), self.nodata
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


def _with_nodata(dataset, value, declared):
    """Return a view of a dataset where `value` means no data beside what the dataset masks."""
    height, width = map(str, dataset.shape)
    view = Element("VRTDataset", rasterXSize=width, rasterYSize=height)
    SubElement(view, "SRS").text = dataset.crs.to_wkt()
    SubElement(view, "GeoTransform").text = ",".join(map(repr, dataset.transform.to_gdal()))
    for band, dtype in zip(dataset.indexes, dataset.dtypes, strict=True):
        kind = typename_fwd[dtype_rev[dtype]]
        made = SubElement(view, "VRTRasterBand", dataType=kind, band=str(band))
        SubElement(made, "NoDataValue").text = repr(value)
        source = SubElement(made, "ComplexSource")
        SubElement(source, "SourceFilename").text = dataset.name
        SubElement(source, "SourceBand").text = str(band)
        if declared is not None and np.isnan(declared):  # what means no data is not copied
            SubElement(source, "NODATA").text = "nan"
        else:
            SubElement(source, "UseMaskBand").text = "true"
    return rasterio.open(tostring(view, encoding="unicode"), sharing=False)


def inspect(path):
    """Read the header of a raster and refuse what cannot be used."""
    with open_local(path) as dataset:
        return _header(Path(dataset.name), dataset)


def _header(path, dataset):
    if not dataset.count or not all(dataset.shape):
        raise InputError(f"{path} has no pixels of its own; convert one of its parts to a GeoTIFF")
    check_bands(path, dataset)
    crs, transform = dataset.crs, dataset.transform
    check_north_up(path, transform)
    check_crs(path, crs)
    bands = zip(dataset.indexes, dataset.colorinterp, strict=True)
    alpha = next((band for band, meaning in bands if meaning == ColorInterp.alpha), None)
    names = dataset.descriptions if are_names(dataset.descriptions) else ()
    return Raster(str(path), Grid(crs, transform, dataset.shape), dataset.count, alpha, names)


def check_sources(rasters, inputs):
    """Refuse rasters that are not the sources and bands a network wants."""
    if inputs is None:
        if not rasters:
            raise InputError("a scene needs at least one raster")
        return
    for source, raster in rasters.items():  # a misspelt one before the one it stands for
        if source not in inputs:
            raise InputError(f"{raster.path}: {source!r} is not used; expected {listed(inputs)}")
    for source in inputs:
        if source not in rasters:
            raise InputError(f"no raster of {source!r} was given; expected {listed(inputs)}")
    for source, raster in rasters.items():
        if not _lacks_slope(source, raster, inputs[source]):
            check_count(raster.path, source, raster.bands, inputs[source])


def _lacks_slope(source, raster, bands):
    return source == "dem" and raster.bands == 1 and bands == 2


def plan(source, raster, reference, bands, nodata):
    """Choose how a raster comes to the grid of the raster `reference`."""
    slope = _lacks_slope(source, raster, bands)
    offset = place_in(raster.grid, reference.grid)
    if not meet(reference.grid, [raster.grid.bounds], raster.grid.crs)[0]:
        raise InputError(
            f"{raster.path} does not overlap {reference.path}; give rasters of one place"
        )
    if _counts_otherwise(raster.grid, reference.grid):
        raise InputError(
            f"{raster.path} has other longitudes than {reference.path} where they meet, by 360 "
            "degrees; bring it to the same ones, as with gdalwarp"
        )
    if offset is not None:
        return Layer(raster, slope, None, offset, nodata)
    if raster.alpha:
        raise InputError(
            f"band {raster.alpha} of {raster.path} is marked as transparency, so that it cannot be "
            f"resampled; drop it, or mark it as data: gdal_edit.py -colorinterp_{raster.alpha} gray"
        )
    finer = _pixels_per_pixel(raster, reference.grid) >= MUCH_FINER
    method = Resampling.average if finer else Resampling.bilinear
    return Layer(raster, slope, method, nodata=nodata)


def place_in(inner, grid):
    """Row and column of the grid where `inner` begins, None where their pixels differ."""
    corners = np.array([(0, 0), grid.shape])
    rows, columns = corners.T
    shifts = corners - _rows_and_columns(inner, *_coordinates(grid, rows, columns))
    whole = shifts[0].round()
    if inner.crs != grid.crs or np.abs(shifts - whole).max() > 0.01:
        return None
    return tuple(whole.astype(int).tolist())


def _counts_otherwise(inner, grid):
    """Tell whether part of a raster lies on the grid only if longitudes are taken modulo 360.

    GDAL does not take them so: it looks for what is at 190 degrees east at 170 west.
    """
    if not inner.crs.is_geographic:
        return False
    (west, _, east, _), (left, _, right, _) = inner.bounds, _bounds_in(grid, inner.crs)
    spans = [(left, right)] if left <= right else [(left, 180), (-180, right)]
    beyond = [(max(east, west + 360), east + 360), (west - 360, min(west, east - 360))]
    return any(
        min(right, end) - max(left, start) > 1e-6 for left, right in spans for start, end in beyond
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


def _pixels_per_pixel(raster, grid):
    """Pixels of a raster along one pixel in the middle of the grid."""
    steps = np.array([(0, 0), (1, 0), (0, 1)]) + np.array(grid.shape) // 2
    x, y = _transformer(grid.crs, raster.grid.crs).transform(*_coordinates(grid, *steps.T))
    if not np.isfinite((x, y)).all():
        raise InputError(f"{raster.path} cannot be brought to {_crs_name(grid.crs)}; warp it first")
    corners = _rows_and_columns(raster.grid, x, y)
    return abs(np.linalg.det(corners[1:] - corners[0])) ** 0.5


def cell_sizes(grid, rows, columns):
    """Height and width (2, n) in metres, on the ellipsoid, of pixels centred at rows and columns.

    Rows and columns are counted from the corner of the grid.
    """
    rows, columns = np.broadcast_arrays(np.atleast_1d(rows), columns)
    to_degrees = _transformer(grid.crs, "EPSG:4326")

    def length(down, right):
        ends = (
            to_degrees.transform(*_coordinates(grid, rows + half * down, columns + half * right))
            for half in (-0.5, 0.5)
        )
        return Geod(ellps="WGS84").inv(*next(ends), *next(ends))[2]

    return np.stack([length(1, 0), length(0, 1)])


def pixel_size(grid):
    """Side in metres of a square as large as the pixel in the middle of the grid."""
    sides = cell_sizes(grid, grid.shape[0] / 2, grid.shape[1] / 2)
    return float(np.sqrt(np.prod(sides)))


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


def listed(names):
    """Return names in one line."""
    return ", ".join(map(repr, names))
