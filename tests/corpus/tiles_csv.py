"""Tables of tiles."""

import os

from .harness import Case
from .seeds import tile_table

DOOR = "tiles.csv"


def table(change):
    """Return what writes a table changed by a function from text to text or bytes."""

    def make(folder):
        path = tile_table(folder) / "tiles.csv"
        text = change(path.read_text())
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return ["compile", path, folder / "out", "--patch-size", 16]

    return make


def swap(old, new):
    return table(lambda text: text.replace(old, new))


def link(target):
    """Return what makes a tile's raster a link to a target."""

    def make(folder):
        tile_table(folder)
        (folder / "dem_0.tif").unlink()
        os.symlink(target, folder / "dem_0.tif")
        return ["compile", folder / "tiles.csv", folder / "out"]

    return make


def bare(make_path):
    """Return what makes something other than a table where it should lie."""

    def make(folder):
        make_path(folder / "tiles.csv")
        return ["compile", folder / "tiles.csv", folder / "out"]

    return make


def sparse(path):
    with open(path, "wb") as file:
        file.truncate(20 << 30)


ROW = "A-0,A,train,optical_0.tif,dem_0.tif,groundtruth_0.tif\n"
PATH = "optical_0.tif"
LEAVES = ("tiles.csv", "leaves the folder")

CASES = [
    Case(
        "no such table", lambda folder: ["compile", folder / "no.csv", folder / "out"], ("no.csv",)
    ),
    Case("a folder", bare(os.mkdir), ("no table at", "tiles.csv")),
    Case("a pipe", bare(os.mkfifo), ("no table at", "tiles.csv")),
    Case("20 GiB of zeros", bare(sparse), ("tiles.csv", "large")),
    Case("empty", table(lambda text: ""), ("tiles.csv", "empty")),
    Case("blank lines only", table(lambda text: "\n\n\n"), ("tiles.csv", "empty")),
    Case(
        "header only", table(lambda text: text.splitlines()[0]), ("tiles.csv", "'train'", "empty")
    ),
    Case("no header", table(lambda text: text.split("\n", 1)[1]), ("no column 'tile'",)),
    Case(
        "semicolons",
        table(lambda text: text.replace(",", ";")),
        ("tiles.csv is separated by ';'; expected commas",),
    ),
    Case("tabs", table(lambda text: text.replace(",", "\t")), ("separated by '\\t'",)),
    Case("UTF-16", table(lambda text: text.encode("utf-16")), ("tiles.csv", "UTF-8")),
    Case("latin-1", table(lambda t: t.replace(PATH, "öst.tif").encode("latin-1")), ("UTF-8",)),
    Case("a GeoTIFF", table(lambda text: b"II*\0" + bytes(range(256)) * 9), ("tiles.csv", "UTF-8")),
    Case(
        "a zero byte in a path", swap(PATH, "opt\0ical.tif"), ("tiles.csv", "zero byte", "line 2")
    ),
    Case("a zero byte in a region", swap("A-1,A,", "A-1,A\0,"), ("zero byte", "line 3")),
    Case("an open quote", swap("A-1,", '"A-1,'), ("tiles.csv", "comma-separated")),
    Case("a row too long", swap(ROW, ROW[:-1] + ",more\n"), ("tiles.csv", "line 2")),
    Case(
        "every row too long",
        table(lambda t: t.replace(".tif\n", ".tif,x\n")),
        ("tiles.csv", "line 2"),
    ),
    Case("a row too short", swap(",groundtruth_0.tif", ""), ("'A-0'", "lacks 'groundtruth'")),
    Case("a column twice", swap("optical,dem", "dem,dem"), ("tiles.csv", "'dem' twice")),
    Case("a column without name", swap("optical,dem", ",dem"), ("tiles.csv", "column")),
    Case("a source named a/b", swap("optical,dem", "a/b,dem"), ("tiles.csv", "'a/b'", "letters")),
    Case(
        "a source named outlines",
        swap("optical,dem", "outlines,dem"),
        ("'outlines'", "groundtruth"),
    ),
    *(
        Case(f"no column {name}", swap(f"{name}", "other"), (f"no column {name!r}", "other"))
        for name in ("tile", "region", "split")
    ),
    Case(
        "no source",
        table(lambda text: "tile,region,split,groundtruth\nA,A,train,x\n"),
        ("no source",),
    ),
    Case("no tile name", swap("A-0,", ","), ("tiles.csv", "lacks 'tile'")),
    Case("a tile named a/b", swap("A-0,", "a/b,"), ("tile name 'a/b'", "letters")),
    Case("a tile named ..", swap("A-0,", "..,"), ("tile name '..'",)),
    Case("a tile twice", swap("A-1,", "A-0,"), ("tile 'A-0' twice",)),
    Case("no region", swap("A-0,A,", "A-0,,"), ("'A-0'", "lacks 'region'")),
    Case(
        "unknown split", swap(",train,", ",Training,"), ("unknown split 'Training'", "train, val")
    ),
    Case("nothing to test", swap(",test,", ",val,"), ("'test'", "empty")),
    Case("no path", swap(PATH, ""), ("'A-0'", "lacks 'optical'")),
    Case("a missing raster", swap(PATH, "none.tif"), ("A-0", "no raster at", "none.tif")),
    Case("a folder as raster", swap(PATH, "."), ("A-0", "no raster at")),
    Case("a path of 5000 letters", swap(PATH, "x" * 5000), ("A-0", "optical")),
    Case("one label of two tiles", swap("groundtruth_1", "groundtruth_0"), ("tiles A-0 and A-1",)),
    Case("../ leaves the folder", swap(PATH, "../x.tif"), LEAVES),
    Case("an absolute path", swap(PATH, "/etc/passwd"), LEAVES),
    Case("/vsicurl/", swap(PATH, "/vsicurl/http://localhost/x.tif"), LEAVES),
    Case("/vsizip/", swap(PATH, "/vsizip/x.zip/x.tif"), LEAVES),
    Case("http:", swap(PATH, "http://localhost/x.tif"), LEAVES),
    Case("s3:", swap(PATH, "s3://bucket/x.tif"), LEAVES),
    Case("a GDAL subdataset", swap(PATH, "GTIFF_DIR:1:optical_0.tif"), ("no raster at",)),
    Case("NETCDF:", swap(PATH, "NETCDF:optical_0.tif:x"), ("no raster at",)),
    Case("a link out of the folder", link("/etc/hostname"), LEAVES),
    Case("a link to itself", link("dem_0.tif"), ("dem_0.tif",)),
]


def _accepted(change):
    return table(change)


ACCEPTED = {
    "byte order mark": _accepted(lambda text: text.encode("utf-8-sig")),
    "CRLF": _accepted(lambda text: text.replace("\n", "\r\n")),
    "mixed line ends": _accepted(lambda text: text.replace("\n", "\r\n", 2)),
    "CR": _accepted(lambda text: text.replace("\n", "\r")),
    "blanks": _accepted(lambda text: text.replace(",", " , ")),
    "no newline at the end": _accepted(lambda text: text.rstrip("\n")),
    "quotes": _accepted(lambda text: text.replace("A-0", '"A-0"')),
}
