"""Scenes to map, and outlines to compare with."""

import struct
import warnings

import geopandas as gpd
import numpy as np
import shapely

from .geotiff import VRT, WMS, declaring
from .harness import Case
from .seeds import scene, values_of, write_raster

DOOR = "scenes and outlines"


def map_arguments(folder, *more):
    return ["map", "--weights", folder / "weights" / "mine.weights.h5", "-o", folder / "out",
            "--optical", folder / "optical.tif", "--dem", folder / "dem.tif", *more]  # fmt: skip


def options(*more):
    return lambda folder: map_arguments(scene(folder), *more)


def raster(source="dem", values=None, **how):
    """Return what replaces a raster of the scene."""

    def make(folder):
        new = values_of(source) if values is None else values
        write_raster(scene(folder) / f"{source}.tif", new, **how)
        return map_arguments(folder)

    return make


def content(change, source="dem"):
    def make(folder):
        path = scene(folder) / f"{source}.tif"
        path.write_bytes(change(path.read_bytes()))
        return map_arguments(folder)

    return make


def beside(ending, text):
    """Return what writes a file beside a raster."""

    def make(folder):
        (scene(folder) / f"dem.tif{ending}").write_text(text)
        return map_arguments(folder)

    return make


def reference(change=None, name="outlines.gpkg"):
    """Return what changes the bytes of the reference, or names another."""

    def make(folder):
        scene(folder)
        path = folder / name
        if change:
            data = path.read_bytes() if path.exists() else b""
            path.write_bytes(change(data))
        return map_arguments(folder, "--reference", path)

    return make


def outlines(geometry, crs="EPSG:32632"):
    def make(folder):
        path = scene(folder) / "outlines.gpkg"
        path.unlink()
        with warnings.catch_warnings(action="ignore", category=UserWarning):  # of no CRS
            gpd.GeoDataFrame({"id": [1]}, geometry=[geometry], crs=crs).to_file(path)
        return map_arguments(folder, "--reference", path)

    return make


def moved(corner, to):
    """Return what moves the last point of the reference that lies at a corner."""

    def change(data):
        before, _, after = data.rpartition(struct.pack("<2d", *corner))
        return before + struct.pack("<2d", *to) + after

    return reference(change)


def named(path):
    return lambda folder: map_arguments(scene(folder), "--dem", path)


def referred(path):
    return lambda folder: map_arguments(scene(folder), "--reference", path)


def without(source):
    def make(folder):
        arguments = map_arguments(scene(folder))
        at = arguments.index(f"--{source}")
        return arguments[:at] + arguments[at + 2 :]

    return make


def over_inputs(folder):
    scene(folder).joinpath("dem.tif").rename(folder / "glacier.tif")
    arguments = map_arguments(folder, "--dem", folder / "glacier.tif")
    return [*arguments, "-o", folder]


def of_another(folder):
    from glavitu.files import write_json

    write_json(scene(folder) / "out" / "map.json", {"recipe": {}, "remarks": []})
    return map_arguments(folder)


def broken_map(text):
    def make(folder):
        scene(folder)
        (folder / "out").mkdir()
        (folder / "out" / "map.json").write_text(text)
        return map_arguments(folder)

    return make


OVERVIEWS = """<PAMDataset><Metadata domain="OVERVIEWS"><MDI key="OVERVIEW_FILE">/etc/hostname</MDI>
</Metadata></PAMDataset>"""
OGR_VRT = b"<OGRVRTDataSource><OGRVRTLayer name='x'><SrcDataSource>/etc/hostname</SrcDataSource></OGRVRTLayer></OGRVRTDataSource>"  # noqa: E501
BOX = shapely.box(500_060, 4_999_600, 500_300, 4_999_900)
NOT_NORTH = ("dem.tif", "rotated or not north-up")
NO_RASTER = ("dem.tif", "not a raster")
NO_VECTOR = ("outlines.gpkg",)

CASES = [
    Case("no raster", named("none.tif"), ("no raster at", "none.tif")),
    Case("a folder", named("."), ("no raster at",)),
    Case("empty", content(lambda data: b""), NO_RASTER),
    Case("cut in the directory", content(lambda data: data[:60]), NO_RASTER),
    Case("cut in the pixels", content(lambda data: data[:-1000]), ("dem.tif", "cut short")),
    Case("wrong magic", content(lambda data: b"XX" + data[2:]), NO_RASTER),
    Case("text", content(lambda data: b"hello"), NO_RASTER),
    Case("/vsicurl/", named("/vsicurl/http://localhost/x.tif"), ("/vsicurl/", "local")),
    Case("/vsizip/", named("/vsizip/x.zip/x.tif"), ("/vsizip/", "local")),
    Case("http:", named("http://localhost/x.tif"), ("http:", "local")),
    Case("VRT", content(lambda data: VRT.encode()), ("dem.tif", "GeoTIFF")),
    Case("VRT after blanks", content(lambda data: (" " * 2000 + VRT).encode()), ("dem.tif",)),
    Case("WMS", content(lambda data: WMS.encode()), ("dem.tif", "not a raster")),
    Case("a mask that is a VRT", beside(".msk", VRT), ("dem.tif.msk", "no TIFF")),
    Case("a mask on a server", beside(".msk", WMS), ("dem.tif.msk", "no TIFF")),
    Case("overviews on a server", beside(".ovr", WMS), ("dem.tif.ovr", "no TIFF")),
    Case(
        "an overview in another file",
        beside(".aux.xml", OVERVIEWS),
        ("dem.tif.aux.xml", "other rasters"),
    ),
    Case("complex", raster(values=np.full((1, 20, 20), 1j, np.complex64)), ("dem.tif", "complex")),
    Case("no CRS", raster(crs=None), ("dem.tif", "no CRS")),
    Case("rotated", raster(transform=(30, 5, 0, 5, -30, 0)), NOT_NORTH),
    Case("south up", raster(transform=(30, 0, 0, 0, 30, 0)), NOT_NORTH),
    Case(
        "another place",
        raster(transform=(30, 0, 0, 0, -30, 0)),
        ("dem.tif", "does not overlap", "optical.tif"),
    ),
    Case("a place of NaN", raster(transform=(30, 0, np.nan, 0, -30, 5)), ("dem.tif",)),
    Case("pixels of no size", raster(transform=(0, 0, 5, 0, -30, 5)), ("dem.tif",)),
    Case("pixels of 10^300 m", raster(transform=(1e300, 0, 0, 0, -1e300, 0)), ("dem.tif",)),
    Case(
        "two bands for one",
        raster(values=np.ones((2, 20, 20), np.float32)),
        ("dem.tif", "2 band", "1"),
    ),
    Case(
        "65,535 bands of which one is there",
        content(declaring(65_535)),
        ("dem.tif", "65,535 bands"),
    ),
    Case(
        "no data at all",
        raster(values=np.full((1, 20, 20), np.nan, np.float32)),
        ("'dem'", "no data"),
    ),
    Case("infinite", raster(values=np.full((1, 20, 20), np.inf, np.float32)), ("'dem'", "no data")),
    Case("a source missing", without("dem"), ("no raster of 'dem'", "'optical'")),
    Case("a source too many", options("--source", "sar=none.tif"), ("none.tif",)),
    Case(
        "a source the network does not know",
        lambda f: map_arguments(scene(f), "--sar", f / "dem.tif"),
        ("'sar'", "not used"),
    ),
    Case("an unknown grid", options("--grid", "sar"), ("'sar'", "grid")),
    Case("a factor of an unknown source", options("--factor", "sar=2"), ("'sar'", "dem")),
    Case("a factor in words", options("--factor", "dem=two"), ("dem=two", "SOURCE=NUMBER")),
    Case("a factor of 0", options("--factor", "dem=0"), ("'dem'", "0")),
    Case("a factor of NaN", options("--factor", "dem=nan"), ("'dem'", "nan")),
    Case("an infinite factor", options("--factor", "dem=inf"), ("'dem'", "inf")),
    Case("a picture in words", options("--picture", "dem=red"), ("dem=red", "SOURCE=R,G,B")),
    Case("a picture of two bands", options("--picture", "optical=1,2"), ("'optical'", "three")),
    Case(
        "a picture of band 3 of 2", options("--picture", "optical=1,2,3"), ("'optical'", "1 to 2")
    ),
    Case("a picture of an unknown source", options("--picture", "sar=1,1,1"), ("'sar'", "dem")),
    Case(
        "pictures of two sources",
        options("--picture", "optical=1,1,2", "--picture", "dem=1,1,1"),
        ("optical and dem", "one source"),
    ),
    Case("a least area of NaN", options("--min-area", "nan"), ("min_area", "nan")),
    Case("infinite smoothing", options("--smooth", "inf"), ("smooth", "inf")),
    Case("stride 0", options("--stride", 0), ("--stride", "0")),
    Case("batch size -1", options("--batch-size", -1), ("--batch-size", "-1")),
    Case(
        "10^9 dropout samples",
        options("--dropout-samples", 10**9),
        ("--dropout-samples", "1000000000"),
    ),
    Case(
        "a scheduler that is no address",
        options("--scheduler", "nonsense"),
        ("scheduler", "nonsense"),
    ),
    Case("another network", options("-m", "setr"), ("mine.weights.h5", "resunet", "setr")),
    Case("a folder with an input", over_inputs, ("glacier.tif", "overwritten")),
    Case("a folder with another map", of_another, ("out", "has a map with", "weights")),
    Case("a map.json cut short", broken_map('{"rec'), ("map.json", "JSON")),
    Case("a map.json of nothing", broken_map("{}"), ("map.json", "recipe")),
    Case("out is a file", lambda f: [*map_arguments(scene(f)), "-o", f / "dem.tif"], ("dem.tif",)),
    Case("no reference", reference(name="none.gpkg"), ("none.gpkg", "no file")),
    Case("an empty reference", reference(lambda data: b""), NO_VECTOR),
    Case("a reference cut short", reference(lambda data: data[:5000]), NO_VECTOR),
    Case("a reference of text", reference(lambda data: b"hello"), NO_VECTOR),
    Case("a raster as reference", reference(name="optical.tif"), ("optical.tif",)),
    Case(
        "a reference that opens others", reference(lambda data: OGR_VRT), (*NO_VECTOR, "GeoPackage")
    ),
    Case("a reference on the web", referred("http://localhost/x.gpkg"), ("http:", "this machine")),
    Case(
        "a reference at /vsicurl/",
        referred("/vsicurl/http://localhost/x"),
        ("/vsicurl/", "this machine"),
    ),
    Case("a reference of lines", outlines(shapely.LineString([(0, 0), (1, 1)])), ("no polygons",)),
    Case("a reference without CRS", outlines(BOX, None), ("no CRS",)),
    Case(
        "an outline that does not close",
        moved((500_300, 4_999_600), (0, 0)),
        (*NO_VECTOR, "broken geometry"),
    ),
    Case(
        "an outline with a corner of NaN",
        moved((500_060, 4_999_900), (np.nan, 0)),
        ("glacier 1", "corner", "nan"),
    ),
    Case(
        "an outline with a corner 10^300 m away",
        moved((500_060, 4_999_900), (1e300, 0)),
        ("glacier 1", "corner", "1e+300"),
    ),
    Case("an empty outline", outlines(shapely.Polygon()), ("no polygons",)),
]
