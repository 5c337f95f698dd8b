"""GeoTIFFs of tiles."""

import os
import struct

import numpy as np
import rasterio
from rasterio.errors import NotGeoreferencedWarning

from .harness import Case
from .seeds import PLACE, SIDE, tile_table, values_of, write_raster

DOOR = "GeoTIFF tiles"
VRT = """<VRTDataset rasterXSize="20" rasterYSize="20"><VRTRasterBand dataType="Float32" band="1">
<SimpleSource><SourceFilename>/etc/hostname</SourceFilename></SimpleSource></VRTRasterBand>
</VRTDataset>"""
WMS = "<GDAL_WMS><Service name='TMS'><ServerUrl>http://localhost/</ServerUrl></Service></GDAL_WMS>"


def raster(name, values=None, **options):
    """Return what replaces a raster of the table."""

    def make(folder):
        tile_table(folder)
        source = name.split("_")[0]
        new = values_of(source) if values is None else np.asarray(values)
        write_raster(folder / f"{name}.tif", new, **options)
        return ["compile", folder / "tiles.csv", folder / "out", "--patch-size", 16]

    return make


def content(change, name="dem_0"):
    """Return what changes the bytes of a raster."""

    def make(folder):
        path = tile_table(folder) / f"{name}.tif"
        path.write_bytes(change(path.read_bytes()))
        return ["compile", folder / "tiles.csv", folder / "out", "--patch-size", 16]

    return make


def declaring(bands):
    """Return what changes the number of bands that a GeoTIFF declares, in its tag 277."""
    field = struct.pack("<HHI", 277, 3, 1)

    def change(data):
        before, _, after = data.partition(field)
        return before + field + struct.pack("<H", bands) + after[2:]

    return change


def sparse(side, name="dem_0"):
    """Return what declares a raster of many pixels that are never written."""

    def make(folder):
        tile_table(folder)
        options = {"driver": "GTiff", "count": 1, "dtype": "float32", "crs": "EPSG:32632"}
        options |= {"transform": rasterio.Affine(*PLACE), "tiled": True, "BIGTIFF": "YES"}
        path = folder / f"{name}.tif"
        path.unlink()
        with rasterio.open(path, "w", width=side, height=side, SPARSE_OK=True, **options):
            pass
        return ["compile", folder / "tiles.csv", folder / "out"]

    return make


def without_place(folder):
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        tile_table(folder)
        with rasterio.open(
            folder / "dem_0.tif", "w", "GTiff", SIDE, SIDE, 1, dtype="float32"
        ) as file:
            file.write(values_of("dem"))
    return ["compile", folder / "tiles.csv", folder / "out"]


def every(source, values):
    """Return what replaces the raster of a source in each tile."""

    def make(folder):
        tile_table(folder)
        for i in range(3):
            write_raster(folder / f"{source}_{i}.tif", values)
        return ["compile", folder / "tiles.csv", folder / "out", "--patch-size", 16]

    return make


def full(value, dtype=np.float32, bands=1, side=SIDE):
    return np.full((bands, side, side), value, dtype)


def label(value):
    return values_of("groundtruth").astype(np.float32) * value


NOT_NORTH = ("A-0", "dem_0.tif", "rotated or not north-up")


def masked_by(folder):
    """A mask beside a raster that leads elsewhere: it must not be opened."""
    write_raster(tile_table(folder) / "dem_0.tif", full(np.nan))
    os.mkfifo(folder / "pipe.tif")  # opening it would wait without end
    (folder / "dem_0.tif.msk").write_text(VRT.replace("/etc/hostname", str(folder / "pipe.tif")))
    return ["compile", folder / "tiles.csv", folder / "out", "--patch-size", 16]


LABELS = ("A-0", "groundtruth_0.tif", "0 and 1")
GRID = ("A-0", "dem_0.tif", "has the grid", "groundtruth")
NO_GEOTIFF = ("A-0", "dem_0.tif", "not a raster GDAL can read")

CASES = [
    Case("empty", content(lambda data: b""), NO_GEOTIFF),
    Case("one byte", content(lambda data: b"I"), NO_GEOTIFF),
    Case("a header alone", content(lambda data: data[:8]), NO_GEOTIFF),
    Case("cut in the directory", content(lambda data: data[:60]), NO_GEOTIFF),
    Case(
        "cut in the pixels",
        content(lambda data: data[: len(data) // 2]),
        ("A-0", "dem_0.tif", "was it cut short?"),
    ),
    Case("wrong magic", content(lambda data: b"XX" + data[2:]), NO_GEOTIFF),
    Case("text", content(lambda data: b"hello\n" * 99), NO_GEOTIFF),
    Case("zeros", content(lambda data: bytes(len(data))), NO_GEOTIFF),
    Case("HDF5", content(lambda data: b"\x89HDF\r\n\x1a\n" + data), NO_GEOTIFF),
    Case("PNG", raster("dem_0", full(1, np.uint8), driver="PNG"), NO_GEOTIFF),
    Case("ENVI, whose header stands apart", raster("dem_0", driver="ENVI"), NO_GEOTIFF),
    Case(
        "VRT, which opens other files",
        content(lambda data: VRT.encode()),
        ("A-0", "dem_0.tif", "only refers to other rasters"),
    ),
    Case("VRT after blanks", content(lambda data: (" " * 2000 + VRT).encode()), NO_GEOTIFF),
    Case("WMS, which asks a server", content(lambda data: WMS.encode()), NO_GEOTIFF),
    Case("a mask that leads elsewhere", masked_by, ("A-0", "dem_0.tif.msk", "no TIFF")),
    Case("complex", raster("dem_0", full(1 + 1j, np.complex64)), ("A-0", "dem_0.tif", "complex")),
    Case(
        "no CRS, others have one",
        raster("dem_0", crs=None),
        ("A-0", "dem_0.tif", "no CRS", "assign it"),
    ),
    Case("another CRS", raster("dem_0", crs="EPSG:32633"), (*GRID, "EPSG:32633")),
    Case("no place at all", without_place, ("dem_0.tif", "no georeferencing")),
    Case("rotated", raster("dem_0", transform=(30, 5, 0, 5, -30, 0)), NOT_NORTH),
    Case("south up", raster("dem_0", transform=(30, 0, 0, 0, 30, 0)), NOT_NORTH),
    Case("mirrored", raster("dem_0", transform=(-30, 0, 0, 0, -30, 0)), NOT_NORTH),
    Case(
        "pixels of no size", raster("dem_0", transform=(0, 0, 5, 0, -30, 5)), ("A-0", "dem_0.tif")
    ),
    Case("a place of NaN", raster("dem_0", transform=(30, 0, np.nan, 0, -30, 5)), ("A-0", "dem_0")),
    Case("another place", raster("dem_0", transform=(30, 0, 0, 0, -30, 0)), GRID),
    Case("half a pixel off", raster("dem_0", transform=(30, 0, 500_015, 0, -30, 5_000_000)), GRID),
    Case("other pixels", raster("dem_0", transform=(60, 0, 500_000, 0, -60, 5_000_000)), GRID),
    Case("another size", raster("dem_0", full(1, side=21)), (*GRID, "21x21", "20x20")),
    Case("one pixel among many", raster("dem_0", full(1, side=1)), (*GRID, "1x1")),
    Case("100000 x 100000, never written", sparse(100_000), ("A-0", "dem_0.tif", "100000x100000")),
    Case("65,535 bands of which one is there", content(declaring(65_535)), ("A-0", "65,535 bands")),
    Case("a label of 10^10 pixels", sparse(100_000, "groundtruth_0"), ("A-0", "groundtruth_0.tif")),
    Case("7 x 10^11 pixels", sparse(838_860), ("A-0", "dem_0.tif")),
    Case(
        "more bands than in training",
        raster("dem_1", full(1, bands=3)),
        ("A-1", "dem_1.tif", "3 band"),
    ),
    Case(
        "bands differ in training",
        raster("optical_0", np.random.default_rng(0).random((3, SIDE, SIDE))),
        ("A-1", "optical_1.tif", "2 band", "3"),
    ),
    Case("a label of 3 bands", raster("groundtruth_0", full(1, np.uint8, 3)), LABELS),
    Case("a label of class 2", raster("groundtruth_0", label(2)), (*LABELS, "2")),
    Case("a label of 255", raster("groundtruth_0", label(255)), (*LABELS, "255")),
    Case("a label of -1", raster("groundtruth_0", label(-1)), (*LABELS, "-1")),
    Case("a label of 0.5", raster("groundtruth_0", label(0.5)), (*LABELS, "0.5")),
    Case(
        "a label of NaN alone",
        raster("groundtruth_0", label(np.nan) * np.nan),
        ("train", "labelled"),
    ),
    Case("sources without data", every("dem", full(np.nan)), ("'dem'", "without any data")),
    Case("infinite", every("dem", full(np.inf)), ("'dem'", "without any data")),
    Case("constant", every("dem", full(7)), ("'dem'", "band 1", "7.0 all over")),
    Case("all nodata", every("dem", full(0)), ("'dem'",)),
    Case("one pixel to train on", raster("groundtruth_0", full(1, side=1)), ("A-0", "1x1")),
]
