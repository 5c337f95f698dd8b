"""Headers of rasters, and how each is brought to a scene's grid."""

from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import Element, SubElement, tostring

import numpy as np
import rasterio
from rasterio.dtypes import dtype_rev, typename_fwd
from rasterio.enums import ColorInterp, MaskFlags, Resampling
from rasterio.vrt import WarpedVRT

from glavitu.bands import check_count
from glavitu.errors import InputError
from glavitu.grids import Grid, crs_name, differ_by_a_turn, meet, pixels_per_pixel, place_in
from glavitu.local_rasters import check_bands, check_crs, check_north_up, open_local
from glavitu.profiles import are_names

MUCH_FINER = 2  # pixels of a source along one of the grid, from which they are averaged
TOLERANCE = 1e-9  # of the positions GDAL interpolates, in pixels; 0 stops rasterio


@dataclass(frozen=True)
class Raster:
    """What the header of a file says.

    `alpha` is the number of a band marked as such, or None; `names` are those of the bands, if each
    has its own; `scales` and `offsets` bring what is stored of each band to its units. No other
    `driver` than the one of the header may open the file: it might see something else in it.
    """

    path: str
    driver: str
    grid: Grid
    bands: int
    alpha: int | None
    names: tuple
    scales: tuple
    offsets: tuple


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

    @property
    def units(self):
        """Scales and offsets of the bands, a slope that is computed among them."""
        return self.raster.scales + (1.0,) * self.slope, self.raster.offsets + (0.0,) * self.slope

    def extent(self, grid):
        """First row and column on the grid, and size, of what `open` returns."""
        return self.offset, (grid if self.method else self.raster.grid).shape

    def open(self, grid):
        dataset = rasterio.open(self.raster.path, driver=self.raster.driver, sharing=False)
        if self.method is None:
            return dataset
        if self.nodata is not None and _holds(dataset.dtypes[0], self.nodata):
            dataset = _with_nodata(dataset, self.nodata)
        elif _has_masks_by_band(dataset):
            dataset = _with_nodata(dataset, np.nan)
        nodata = np.nan if _means_nan(dataset, 1) else dataset.nodata
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
        for what, default in ("scales", 1), ("offsets", 0):
            if set(declared := getattr(self.raster, what)) != {default}:
                numbers = ", ".join(f"{value:g}" for value in dict.fromkeys(declared))
                yield f"{source} declares {what} ({numbers}), which were applied."
        if self.slope:
            yield f"The slope was computed from the elevation of {source} on the grid."


def _means_nan(dataset, band):
    """Tell whether only NaN means no data: one such pixel would else blank those around it."""
    kind = np.dtype(dataset.dtypes[band - 1]).kind
    return kind == "f" and MaskFlags.all_valid in dataset.mask_flag_enums[band - 1]


def _holds(dtype, value):
    """Tell whether pixels of a type can have a value; others mean nothing there."""
    dtype = np.dtype(dtype)
    if dtype.kind == "f":
        return True
    return float(value).is_integer() and np.iinfo(dtype).min <= value <= np.iinfo(dtype).max


def _has_masks_by_band(dataset):
    """Tell whether bands are masked each in its own way, of which a warp would take the first."""
    flags = [tuple(flags) for flags in dataset.mask_flag_enums]
    return () in flags or len(set(flags)) > 1 or len(set(map(repr, dataset.nodatavals))) > 1


def _with_nodata(dataset, value):
    """Return a view of a dataset where `value` means no data beside what the dataset masks."""
    height, width = map(str, dataset.shape)
    file = dataset.name
    if dataset.driver != "GTiff":  # by whose first bytes no other driver knows a file
        if "?" in file:
            raise InputError(f"{file} cannot be named so; take the question mark away")
        file = f"vrt://{file}?if={dataset.driver}"
    view = Element("VRTDataset", rasterXSize=width, rasterYSize=height)
    SubElement(view, "SRS").text = dataset.crs.to_wkt()
    SubElement(view, "GeoTransform").text = ",".join(map(repr, dataset.transform.to_gdal()))
    for band, dtype in zip(dataset.indexes, dataset.dtypes, strict=True):
        kind = "Float32" if np.isnan(value) else typename_fwd[dtype_rev[dtype]]
        made = SubElement(view, "VRTRasterBand", dataType=kind, band=str(band))
        SubElement(made, "NoDataValue").text = repr(value)
        source = SubElement(made, "ComplexSource")
        SubElement(source, "SourceFilename").text = file
        SubElement(source, "SourceBand").text = str(band)
        if _means_nan(dataset, band):  # what means no data is not copied
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
    grid, units = Grid(crs, transform, dataset.shape), (dataset.scales, dataset.offsets)
    return Raster(str(path), dataset.driver, grid, dataset.count, alpha, names, *units)


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
    if differ_by_a_turn(raster.grid, reference.grid):
        raise InputError(
            f"{raster.path} has other longitudes than {reference.path} where they meet, by 360 "
            "degrees; warp it to that grid, as with rio warp --like"
        )
    if offset is not None:
        return Layer(raster, slope, None, offset, nodata)
    if raster.alpha:
        raise InputError(
            f"band {raster.alpha} of {raster.path} is marked as transparency, so that it cannot be "
            f"resampled; drop it, or mark it as data: gdal_edit.py -colorinterp_{raster.alpha} gray"
        )
    finer = pixels_per_pixel(raster.grid, reference.grid)
    if np.isnan(finer):
        name = crs_name(reference.grid.crs)
        raise InputError(f"{raster.path} cannot be brought to {name}; warp it first")
    method = Resampling.average if finer >= MUCH_FINER else Resampling.bilinear
    return Layer(raster, slope, method, nodata=nodata)


def listed(names):
    """Return names in one line."""
    return ", ".join(map(repr, names))
