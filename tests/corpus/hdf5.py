"""HDF5 tile files."""

import shutil

import h5py
import numpy as np

from .harness import Case
from .seeds import SIDE, tile_files

DOOR = "HDF5 tile files"


def train(folder):
    return ["train", "-m", "resunet", "--profile", folder / "tiny.yaml", "--data", folder / "data",
            "--out", folder / "out"]  # fmt: skip


def tiles(change, split="train"):
    """Return what changes the opened file of a split."""

    def make(folder):
        tile_files(folder)
        with h5py.File(folder / "data" / f"{split}.hdf5", "r+") as file:
            change(file)
        return train(folder)

    return make


def array(values, key="A-0/dem", **options):
    """Return what replaces an array of a tile."""

    def change(file):
        del file[key]
        file.create_dataset(key, data=values, **options)

    return tiles(change)


def label(values, split="train"):
    """Return what replaces the labels of every tile, whichever is drawn."""

    def change(file):
        for name in file:
            del file[name]["groundtruth"]
            file[name]["groundtruth"] = values

    return tiles(change, split)


def declared(key="A-0/dem", **options):
    """Return what declares an array of a tile that is not written."""

    def change(file):
        del file[key]
        file.create_dataset(key, **options)

    return tiles(change)


def attribute(key, value, place="A-0"):
    return tiles(lambda file: file[place].attrs.__setitem__(key, value))


def content(change, name="train.hdf5"):
    """Return what changes the bytes of a file."""

    def make(folder):
        path = tile_files(folder) / "data" / name
        path.write_bytes(change(path.read_bytes()))
        return train(folder)

    return make


def linked(link, key="A-0/dem"):
    def change(file):
        del file[key]
        file[key] = link

    return tiles(change)


def external(file):
    del file["A-0/dem"]
    layer = file["A-0"].create_dataset(
        "dem", (SIDE, SIDE, 1), "f4", external=[("/etc/services", 0, h5py.h5f.UNLIMITED)]
    )
    assert layer.external


def virtual(file):
    del file["A-0/dem"]
    layout = h5py.VirtualLayout((SIDE, SIDE, 1), "f4")
    layout[:] = h5py.VirtualSource("/etc/services", "dem", (SIDE, SIDE, 1))
    file["A-0"].create_virtual_dataset("dem", layout)


def cyclic(file):
    file["A-0/self"] = file["A-0"]
    del file["A-0/dem"], file["A-0/optical"], file["A-0/groundtruth"]


def fill(value):
    """Return what fills a source of every tile, whichever is drawn."""

    def change(file):
        for name in file:
            file[name]["dem"][:] = value

    return change


def clear(file):
    for key in list(file):
        del file[key]


def without(*names):
    def make(folder):
        tile_files(folder)
        for name in names:
            (folder / "data" / name).unlink()
        return train(folder)

    return make


def folder_as_file(folder):
    tile_files(folder)
    (folder / "data" / "train.hdf5").unlink()
    (folder / "data" / "train.hdf5").mkdir()
    return train(folder)


def no_data(folder):
    shutil.rmtree(tile_files(folder) / "data")
    return train(folder)


def noise(*shape):
    return np.random.default_rng(0).random(shape, dtype=np.float32)


def compressed(folder):
    def change(file):
        for name in file:
            del file[name]["dem"]
            array = file[name].create_dataset("dem", data=noise(SIDE, SIDE, 1), compression="gzip")
            chunks.append(array.id.get_chunk_info(0))

    chunks = []
    tiles(change)(folder)
    path = folder / "data" / "train.hdf5"
    data = bytearray(path.read_bytes())
    for chunk in chunks:
        data[chunk.byte_offset : chunk.byte_offset + chunk.size] = bytes(chunk.size)
    path.write_bytes(data)
    return train(folder)


TILE = ("train.hdf5", "A-0")
DEM = (*TILE, "dem")
LABELS = ("train.hdf5", "tile", "groundtruth")
LABEL = (*TILE, "groundtruth")
NOT_HDF5 = ("train.hdf5", "not an HDF5 file")
COMPOUND = np.zeros((SIDE, SIDE, 1), [("a", "f4"), ("b", "i4")])
ONES = np.ones((SIDE, SIDE, 2), np.float32)

CASES = [
    Case("no folder", no_data, ("no data folder",)),
    Case("no train.hdf5", without("train.hdf5"), ("no train.hdf5",)),
    Case("no val.hdf5", without("val.hdf5"), ("no val.hdf5",)),
    Case("a folder as file", folder_as_file, ("train.hdf5", "not an HDF5 file")),
    Case("empty", content(lambda data: b""), NOT_HDF5),
    Case("magic alone", content(lambda data: data[:8]), (*NOT_HDF5, "cut short")),
    Case("cut in half", content(lambda data: data[: len(data) // 2]), (*NOT_HDF5, "cut short")),
    Case("cut by a byte", content(lambda data: data[:-1]), (*NOT_HDF5, "cut short")),
    Case("wrong magic", content(lambda data: b"\x88" + data[1:]), NOT_HDF5),
    Case("a GeoTIFF", content(lambda data: b"II*\0" + data), NOT_HDF5),
    Case("text", content(lambda data: b"tile,region\n"), NOT_HDF5),
    Case("damaged chunks", compressed, ("train.hdf5", "dem of tile", "damaged")),
    Case("no tiles", tiles(clear), ("train.hdf5", "holds no tiles")),
    Case(
        "arrays without a group",
        tiles(lambda f: (clear(f), f.create_dataset("x", data=ONES))),
        ("train.hdf5", "holds no tiles"),
    ),
    Case(
        "a tile without arrays",
        tiles(lambda f: f.create_group("C-0")),
        ("train.hdf5", "C-0", "no (y, x, band)"),
    ),
    Case("an array of 2 dimensions", array(noise(SIDE, SIDE)), (*TILE, "no 'dem'", "optical")),
    Case("an array of 4 dimensions", array(noise(SIDE, SIDE, 1, 1)), (*TILE, "no 'dem'")),
    Case("another size", array(noise(SIDE, SIDE + 1, 1)), (*DEM, "different sizes", "(20, 21)")),
    Case(
        "no pixels",
        tiles(
            lambda f: (
                [f.pop(f"A-0/{k}") for k in ("dem", "optical", "groundtruth")]
                and [
                    f.create_dataset(f"A-0/{k}", (0, 5, n))
                    for k, n in (("dem", 1), ("optical", 2), ("groundtruth", 2))
                ]
            )
        ),
        (*TILE, "0x5"),
    ),
    Case("no bands", array(noise(SIDE, SIDE, 0)), (*DEM, "0 band")),
    Case("another number of bands", array(noise(SIDE, SIDE, 4)), (*DEM, "4 band", "1")),
    Case(
        "a source missing in one tile",
        tiles(lambda f: f.pop("A-0/dem")),
        (*TILE, "no 'dem'", "optical"),
    ),
    Case("no label", tiles(lambda f: f.pop("A-0/groundtruth")), (*TILE, "no label", "groundtruth")),
    Case("a label of 1 class", label(ONES[..., :1]), (*LABELS, "1", "2")),
    Case("a label of 3 classes", label(noise(SIDE, SIDE, 3)), (*LABELS, "3", "2")),
    Case("a label of unknown class 2", label(2 * ONES), (*LABELS, "[2.0, 2.0]", "or zeros")),
    Case(
        "an integer label of 255",
        label(np.full((SIDE, SIDE, 2), 255, np.uint8)),
        (*LABELS, "[255, 255]", "or zeros"),
    ),
    Case("a label of both classes", label(ONES), (*LABELS, "[1.0, 1.0]", "or zeros")),
    Case("a negative label", label(-ONES), (*LABELS, "[-1.0, -1.0]", "or zeros")),
    Case("no label in training", label(0 * ONES), ("train.hdf5", "no labelled pixel")),
    Case("no label in validation", label(0 * ONES, "val"), ("val.hdf5", "no labelled pixel")),
    Case("a label of NaN", label(ONES * np.nan), (*LABELS, "nan", "or zeros")),
    Case("all NaN", tiles(fill(np.nan)), (*DEM, "not finite")),
    Case("infinite", tiles(fill(np.inf)), (*DEM, "not finite")),
    Case(
        "NaN in the validation tiles",
        tiles(fill(np.nan), "val"),
        ("val.hdf5", "A-0", "dem", "not finite"),
    ),
    Case("strings", array(np.full((SIDE, SIDE, 1), b"high")), (*DEM, "numbers")),
    Case(
        "strings of any length", array(np.full((SIDE, SIDE, 1), "high", object)), (*DEM, "numbers")
    ),
    Case("complex", array(ONES[..., :1] * 1j), (*DEM, "complex", "numbers")),
    Case("compound", array(COMPOUND), (*DEM, "numbers")),
    Case("references", declared(shape=(SIDE, SIDE, 1), dtype=h5py.ref_dtype), (*DEM, "numbers")),
    Case(
        "10^15 pixels, never written",
        declared(shape=(10**7, 10**8, 1), dtype="f4", chunks=(512, 512, 1)),
        (*DEM, "100000000", "never written"),
    ),
    Case(
        "a tile of 10^10 pixels, never written",
        tiles(lambda f: f.create_dataset("C-0/dem", (10**5, 10**5, 1), "f4", chunks=(512, 512, 1))),
        ("train.hdf5", "C-0", "dem", "100000x100000", "never written"),
    ),
    Case("an external link", linked(h5py.ExternalLink("/etc/other.hdf5", "/dem")), (*DEM, "link")),
    Case(
        "a tile that is an external link",
        tiles(lambda f: f.__setitem__("C-0", h5py.ExternalLink("val.hdf5", "/A-0"))),
        ("train.hdf5", "C-0", "link"),
    ),
    Case("a soft link", linked(h5py.SoftLink("/B-0/dem")), (*DEM, "link")),
    Case("a dangling soft link", linked(h5py.SoftLink("/nowhere")), (*DEM, "link")),
    Case("a group that holds itself", tiles(cyclic), ("train.hdf5", "A-0", "no (y, x, band)")),
    Case("pixels in another file", tiles(external), (*DEM, "other files")),
    Case("a virtual dataset", tiles(virtual), (*DEM, "other files")),
    Case("negative padding", attribute("padding_height", -5), (*TILE, "padding_height", "-5")),
    Case("more padding than tile", attribute("padding_width", 10), (*TILE, "padding_width", "10")),
    Case("padding in words", attribute("padding_width", "two"), (*TILE, "padding_width", "two")),
    Case("padding of NaN", attribute("padding_width", np.nan), (*TILE, "padding_width", "nan")),
    Case(
        "a transform of 3 numbers",
        attribute("transform", [1.0, 2.0, 3.0]),
        (*TILE, "transform", "6"),
    ),
    Case("a transform in words", attribute("transform", "here"), (*TILE, "transform", "6")),
    Case("scaling that is no JSON", attribute("scaling", "{", "/"), ("train.hdf5", "scaling")),
    Case(
        "scaling of other sources",
        attribute("scaling", '{"sar": 3}', "/"),
        ("train.hdf5", "scaling"),
    ),
    Case(
        "tiles smaller than a patch",
        tiles(
            lambda f: (
                [f.pop(f"A-0/{k}") for k in ("dem", "optical", "groundtruth")]
                and [
                    f.create_dataset(f"A-0/{k}", data=noise(1, 1, n))
                    for k, n in (("dem", 1), ("optical", 2), ("groundtruth", 2))
                ]
            )
        ),
        (*TILE, "1x1", "patch of 16"),
    ),
]
