"""GeoTIFF <-> `xarray.DataArray`."""

import warnings

import numpy as np
import rasterio
import rioxarray
import xarray as xr

from glavitu.errors import InputError
from glavitu.files import replacing
from glavitu.local_rasters import check_bands, check_north_up, has_nodata, open_local
from glavitu.units import in_declared_units

MOST = 1 << 30  # numbers in a raster that is read as a whole


def read_raster(path):
    """Read a GeoTIFF as float32 (y, x, band) with NaN where it has no data.

    Scales and offsets that it declares are applied.

    Raises `InputError` where the file is missing, no GeoTIFF, too large, complex, south-up or
    rotated. No other driver of GDAL is asked: some open other files, or servers.
    """
    with open_local(path, ["GTiff"]) as header:
        _check_header(path, header)
        warnings.filterwarnings("ignore", "(Scales|Offsets) differ across bands")  # for xarray only
        masked = has_nodata(header)
        with rioxarray.open_rasterio(header.name, masked=masked, driver="GTiff") as raster:
            units = header.scales, header.offsets
            values = in_declared_units(raster.values, *units)
            raster, encoding = raster.copy(data=values), raster.encoding
    raster = raster.where(np.isfinite(raster)).transpose("y", "x", "band")
    raster.encoding = encoding | {"units": units}  # it says what meant no data, too
    return raster


def _check_header(path, header):
    check_bands(path, header)
    if header.count * header.height * header.width > MOST:
        raise InputError(
            f"{path} is {header.height}x{header.width} pixels of {header.count} band(s), too large "
            "for one tile; cut it up"
        )
    check_north_up(path, header.transform)


def write_raster(path, array):
    """Write a georeferenced `xarray.DataArray` (band, y, x) or (y, x) as a compressed GeoTIFF."""
    with rasterio.io.MemoryFile(ext=".tif") as memory:  # GDAL is silent where a disk is full
        array.rio.to_raster(memory.name, driver="GTiff", compress="deflate", tiled=True)
        with replacing(path) as part:
            part.write_bytes(memory.getbuffer())


def to_dataarray(values, transform, crs, *, nodata=None, bands=None):
    """Return values (band, y, x) as a georeferenced `xarray.DataArray` ready to be written.

    `bands` are the descriptions of the bands that GIS software shows.
    """
    array = xr.DataArray(values, dims=("band", "y", "x"))
    if bands:
        array.attrs["long_name"] = tuple(bands)
    array = array.rio.write_transform(rasterio.Affine(*transform)).rio.write_crs(crs)
    return array if nodata is None else array.rio.write_nodata(nodata)
