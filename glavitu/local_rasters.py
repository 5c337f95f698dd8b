"""Open rasters that may come from anywhere: local files alone, which lead to no others."""

import hashlib
import os
import warnings
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
import rasterio
from pyproj import CRS
from pyproj.exceptions import DataDirError, ProjError
from rasterio.enums import MaskFlags
from rasterio.errors import CRSError, NotGeoreferencedWarning, RasterioError
from rasterio.io import DatasetReader

from glavitu.errors import InputError
from glavitu.provenance import fingerprint

# GDAL drivers whose files hold the pixels; many others' may name further files, or servers.
DRIVERS = ["GTiff", "JP2OpenJPEG", "JP2KAK", "JP2ECW", "AAIGrid", "ENVI", "EHdr", "SRTMHGT"]
DRIVERS += ["DTED", "PNG", "JPEG"]
MASKS, HEADER = (".msk", ".ovr", ".msk.ovr", ".ovr.msk"), ".aux.xml"  # added to a raster's name
PARTS = (".msk", ".hdr", ".tfw", ".tifw", ".wld")  # ends of files beside it that it needs
TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # how they begin
MOST_BANDS = 1000  # of a raster; a file may declare 65,535 that it does not hold


@contextmanager
def open_local(path, drivers=DRIVERS):
    """Open a raster of a driver that reads pixels from the file itself."""
    check_proj()
    check_local(path)
    if not Path(path).is_file():
        raise InputError(f"no raster at {path}")
    try:
        file = _place(path)
        _check_references(file)
        with rasterio.Env() as env, warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            found = [driver for driver in drivers if driver in env.drivers()]
            with DatasetReader(str(file), driver=found) as dataset:
                _check_overviews(path, dataset)
                yield dataset
    except (OSError, RasterioError, UnicodeDecodeError) as error:
        reason = first_line(error)
        advice = "; convert it to a GeoTIFF" * ("not recognized" in reason)
        raise InputError(f"{path} is not a raster GDAL can read: {reason}{advice}") from None


def check_local(path):
    """Refuse an address, such as of a server, that GDAL would open."""
    if "://" in str(path) or str(path).startswith("/vsi"):
        raise InputError(f"{path} is not a local file; download it first")


def _check_references(path):
    """Refuse a raster that leads to others, by itself or by a file beside it.

    GDAL would follow already when it opens it, and masks and overviews with any of its drivers.
    """
    if b"<VRTDataset" in _start(path)[:1024]:
        raise InputError(f"{path} only refers to other rasters; convert it to a GeoTIFF")
    for file in _named_like(path):
        end = file.name.lower().removeprefix(path.name.lower())
        if end in MASKS and _start(file)[:4] not in TIFF:
            raise InputError(f"{file}, which GDAL reads with {path.name}, is no TIFF; remove it")
        if end == HEADER and b"OVERVIEW_FILE" in _start(file):
            raise InputError(f"{file} only refers to other rasters; remove it")


def _check_overviews(path, dataset):
    """Refuse an open raster whose overviews are in a file that it names itself."""
    if "OVERVIEW_FILE" in map(str.upper, dataset.tags(ns="OVERVIEWS")):
        raise InputError(f"{path} has overviews in another file; copy it, as with gdal_translate")


def _start(path):
    with open(path, "rb") as file:
        return file.read(1 << 20)


def files_of(path):
    """Return a raster and the files of its name beside it: masks, headers, world files, ….

    Of a link, they lie beside it or, where none does, beside the file it leads to.
    """
    path = _place(path)
    return [path, *_named_like(path)]


def _place(path):
    """Return the path of a raster beside which GDAL is to look for its masks and headers.

    That is a link itself where such are beside it, as where git-annex or DVC made it.
    """
    path = Path(path).absolute()
    if not path.is_symlink() or not _has_parts(path):
        return path.resolve()
    if _has_parts(path.resolve()):
        raise InputError(
            f"{path} is a link, and masks or headers are both beside it and beside the file it "
            "leads to; name that file"
        )
    return path


def _has_parts(path):
    return any(file.name.lower().endswith(PARTS) for file in _named_like(path))


def _named_like(path):
    """Return the other files in a raster's folder that are called as it is, but for the end.

    As for GDAL, letters may be of any case.
    """
    try:
        names = os.listdir(path.parent)
    except OSError:  # GDAL, which cannot list the folder either, asks for these
        names = [path.name + end for end in (*MASKS, HEADER)]
    stem = f"{path.stem.lower()}."
    names = [name for name in names if name.lower().startswith(stem) and name != path.name]
    return sorted(file for name in names if (file := path.with_name(name)).is_file())


def fingerprint_of(path):
    """Return a fingerprint of a raster, with its masks and what its header says.

    What else files beside it hold, such as statistics and the scene's metadata, makes no
    difference.
    """
    with open_local(path) as dataset:
        ends = (".msk", ".hdr")
        read = [f for f in dataset.files if f == dataset.name or f.lower().endswith(ends)]
        said = (dataset.nodatavals, dataset.mask_flag_enums, dataset.descriptions)
        said += (dataset.crs.to_wkt(), tuple(dataset.transform), dataset.scales, dataset.offsets)
    parts = [*map(fingerprint, read), repr(said)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


@cache
def check_proj():
    """Refuse to go on without PROJ's database: coordinate systems would not be known."""
    try:
        with rasterio.Env():
            rasterio.crs.CRS.from_epsg(4326)
            CRS.from_epsg(4326)
    except (CRSError, ProjError, DataDirError) as error:
        raise InputError(
            f"PROJ finds no coordinate systems ({first_line(error)}); unset PROJ_DATA and PROJ_LIB"
        ) from None


def has_nodata(dataset):
    """Tell whether pixels that a dataset masks have no data.

    They have where a band is marked as transparency: GDAL marks the fourth band of many files so,
    although it is one of values.
    """
    return MaskFlags.alpha not in dataset.mask_flag_enums[0]


def check_bands(path, dataset):
    """Refuse a raster of more bands than any sensor has, or of complex numbers."""
    if dataset.count > MOST_BANDS:
        raise InputError(
            f"{path} declares {dataset.count:,} bands, expected at most {MOST_BANDS:,}"
        )
    if any("complex" in dtype for dtype in dataset.dtypes):
        raise InputError(f"{path} holds complex numbers; convert them, as to backscatter in dB")


def check_north_up(path, transform):
    """Refuse a raster whose rows do not run from west to east, the northernmost first."""
    if transform == rasterio.Affine.identity():
        raise InputError(
            f"{path} has no georeferencing; assign it, as with gdal_edit.py -a_ullr WEST NORTH "
            "EAST SOUTH -a_srs EPSG:CODE"
        )
    straight = transform.a > 0 > transform.e and not transform.b and not transform.d
    if not straight or not np.isfinite(tuple(transform)).all():
        raise InputError(
            f"{path} is rotated or not north-up ({tuple(transform)[:6]}); warp it first"
        )


def check_crs(path, crs):
    """Refuse a raster that does not say where on Earth it lies."""
    if not crs or not (crs.is_geographic or crs.is_projected):
        raise InputError(
            f"{path} has no CRS to place it by; assign it, as with gdal_edit.py -a_srs"
        )


def first_line(error):
    """Return an error in one line; that of a failed read from where rasterio took it."""
    line = " ".join(str(error).split()).removesuffix(".")
    if "previous exception" in line and error.__cause__ is not None:
        return f"{first_line(error.__cause__)}; was it cut short?"
    return line
