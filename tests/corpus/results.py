"""Folders of results: of another run, or damaged."""

import json

import h5py

from .harness import Case
from .seeds import predictions, tile_files, training
from .weights import predict

DOOR = "results folders"


def evaluate(folder):
    return ["evaluate", "-n", "mine", "--out", folder]


def changed(change, name="A-0.nc", command=evaluate):
    """Return what changes the bytes of a file of the predictions."""

    def make(folder):
        path = predictions(folder) / "predictions" / "mine" / name
        path.write_bytes(change(path.read_bytes()))
        return command(folder)

    return make


def netcdf(change):
    """Return what changes an opened prediction."""

    def make(folder):
        predictions(folder)
        with h5py.File(folder / "predictions" / "mine" / "A-0.nc", "r+") as file:
            change(file)
        return evaluate(folder)

    return make


def started(name, content):
    """Return what leaves a file of another training called mine, and trains."""

    def make(folder):
        training(folder)
        (folder / "weights" / name).write_bytes(content)
        return ["train", "-m", "resunet", "-n", "mine", "--profile", folder / "tiny.yaml",
                "--data", folder / "data", "--out", folder]  # fmt: skip

    return make


def record(content):
    return started("mine.json", content)


def checkpoint(content):
    def make(folder):
        arguments = started("mine.checkpoint.h5", content)(folder)
        (folder / "weights" / "mine.json").unlink()
        return arguments

    return make


def without_settings(folder):
    arguments = checkpoint(b"")(folder)
    with h5py.File(folder / "weights" / "mine.checkpoint.h5", "w") as file:
        file["settings"] = "[]"
    return arguments


def demo(name, content):
    """Return what leaves a file in a folder for demo data."""

    def make(folder):
        (folder / "demo").mkdir()
        (folder / "demo" / name).write_bytes(content)
        return ["demo-data", folder / "demo", "--tile-size", 32]

    return make


def endless(data):
    """Say that the free space of the heap of texts takes no bytes: HDF5 would never get past it."""
    data, place = bytearray(data), data.index(b"GCOL\x01") + 16
    while int.from_bytes(data[place : place + 2], "little"):
        place += 16 + (int.from_bytes(data[place + 8 : place + 16], "little") + 7 & ~7)
    data[place + 8 : place + 16] = bytes(8)
    return bytes(data)


def unlabelled(folder):
    predictions(folder)
    with h5py.File(folder / "predictions" / "mine" / "A-0.nc", "r+") as file:
        del file["groundtruth"]
    return evaluate(folder)


PREDICTION = ("A-0.nc", "predict")
OTHER = json.dumps({"settings": {"architecture": "setr"}}).encode()
MINE = ("mine",)

CASES = [
    Case(
        "no predictions",
        lambda folder: evaluate(tile_files(folder)),
        ("no predictions in", "predict first"),
    ),
    Case("a prediction empty", changed(lambda data: b""), PREDICTION),
    Case("a prediction cut", changed(lambda data: data[:2000]), PREDICTION),
    Case("a prediction of text", changed(lambda data: b"hello"), PREDICTION),
    Case("a prediction of zeros", changed(lambda data: bytes(len(data))), PREDICTION),
    Case("a heap of texts without end", changed(endless), ("A-0.nc", "heap", "no end")),
    Case(
        "a prediction without map", netcdf(lambda file: file.pop("glacier")), ("A-0.nc", "glacier")
    ),
    Case("a prediction without label", unlabelled, ("A-0", "no groundtruth")),
    Case(
        "a prediction that links elsewhere",
        netcdf(
            lambda f: (
                f.pop("glacier"),
                f.__setitem__("glacier", h5py.ExternalLink("/etc/x", "/y")),
            )
        ),
        PREDICTION,
    ),
    Case(
        "predictions.json cut short",
        changed(lambda data: data[:9], "predictions.json", predict),
        ("predictions.json", "JSON"),
    ),
    Case(
        "predictions.json of nothing",
        changed(lambda data: b"{}", "predictions.json", predict),
        ("predictions.json", "recipe"),
    ),
    Case(
        "another training of that name",
        record(OTHER),
        (*MINE, "architecture", "setr", "resunet", "(overwrite)"),
    ),
    Case("a record cut short", record(b'{"settings"'), ("mine.json", "JSON")),
    Case("a record of nothing", record(b"{}"), ("mine.json", "settings")),
    Case("a record that is a list", record(b"[]"), ("mine.json",)),
    Case("a checkpoint empty", checkpoint(b""), ("mine.checkpoint.h5",)),
    Case("a checkpoint of text", checkpoint(b"hello"), ("mine.checkpoint.h5",)),
    Case("a checkpoint of nothing", without_settings, ("mine.checkpoint.h5", "remove it")),
    Case(
        "demo data made otherwise",
        demo("demo_data.json", b'{"tile_size": 64, "seed": 0}'),
        ("demo", "tile_size 64", "32"),
    ),
    Case("demo_data.json cut short", demo("demo_data.json", b'{"ti'), ("demo_data.json", "JSON")),
    Case("data that are not demo data", demo("train.hdf5", b""), ("demo", "not demo data")),
]
