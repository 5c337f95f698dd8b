"""Weight files and the records beside them."""

import json

import h5py
import numpy as np

from .harness import Case
from .seeds import training, write_record

DOOR = "weight files and records"
WEIGHTS = "mine.weights.h5"


def predict(folder):
    return ["predict", "-n", "mine", "--profile", folder / "tiny.yaml", "--data", folder / "data",
            "--out", folder]  # fmt: skip


def map_(folder):
    from .scenes import map_arguments

    return map_arguments(folder)


def content(change):
    """Return what changes the bytes of the weight file."""

    def make(folder):
        path = training(folder) / "weights" / WEIGHTS
        path.write_bytes(change(path.read_bytes()))
        return predict(folder)

    return make


def weights(change):
    """Return what changes the opened weight file."""

    def make(folder):
        training(folder)
        with h5py.File(folder / "weights" / WEIGHTS, "r+") as file:
            change(file)
        return predict(folder)

    return make


def built(**changes):
    """Return what changes what the weight file says it is for."""

    def change(file):
        said = json.loads(file.attrs["glavitu"]) | changes
        file.attrs["glavitu"] = json.dumps({k: v for k, v in said.items() if v is not None})

    return weights(change)


def said(text):
    return weights(lambda file: file.attrs.__setitem__("glavitu", text))


def first(file):
    """Return the place of the first array."""
    return file["layers"].visititems(lambda k, v: k if isinstance(v, h5py.Dataset) else None)


def array(make_values):
    """Return what replaces the first array by a function of it."""

    def change(file):
        key = first(file)
        values = make_values(file["layers"][key][()])
        del file["layers"][key]
        file["layers"][key] = values

    return weights(change)


def declared(file):
    key = first(file)
    del file["layers"][key]
    file["layers"].create_dataset(key, (10**6, 10**6), "f4", chunks=(1000, 1000))


def external(file):
    key = first(file)
    shape = file["layers"][key].shape
    del file["layers"][key]
    file["layers"].create_dataset(
        key, shape, "f4", external=[("/etc/services", 0, h5py.h5f.UNLIMITED)]
    )


def linked(link):
    def change(file):
        key = first(file)
        del file["layers"][key]
        file["layers"][key] = link

    return weights(change)


def record(text):
    """Return what writes another record beside the weights, and maps a scene."""

    def make(folder):
        from .scenes import map_arguments
        from .seeds import scene

        scene(folder)
        (folder / "weights" / "mine.json").write_bytes(text)
        return map_arguments(folder)

    return make


def scaling(**changes):
    """Return what writes another scaling into the record of the weights, and maps a scene."""
    content = {"optical": {"low": [0, 0], "high": [9, 9]}, "dem": {"low": [0], "high": [9]}}

    def make(folder):
        arguments = record(b"")(folder)
        write_record(folder / "weights" / WEIGHTS, scaling=content | changes)
        return arguments

    return make


def calibration(content):
    def make(folder):
        from .scenes import map_arguments
        from .seeds import scene

        scene(folder)
        (folder / "weights" / "mine.calibration.json").write_bytes(content)
        return map_arguments(folder)

    return make


def cut_for_map(folder):
    from .seeds import scene

    path = scene(folder) / "weights" / WEIGHTS
    path.write_bytes(path.read_bytes()[:-1])
    return map_(folder)


def missing(folder):
    (training(folder) / "weights" / WEIGHTS).unlink()
    return predict(folder)


def published(file):
    for key in list(file):
        del file[key]
    del file.attrs["glavitu"]
    file.attrs["layer_names"] = [b"fusion", b"nowhere"]


NOT_HDF5 = (WEIGHTS, "not an HDF5 weight file")
RECORD = ("mine.json",)
SIZES = {"fusion_filters": 4, "filters": 4, "steps": 2}

CASES = [
    Case("missing", missing, ("no weights at", WEIGHTS)),
    Case("empty", content(lambda data: b""), NOT_HDF5),
    Case("cut", content(lambda data: data[: len(data) // 2]), (*NOT_HDF5, "cut short")),
    Case("cut, for map", cut_for_map, (*NOT_HDF5, "cut short")),
    Case("text", content(lambda data: b"weights"), NOT_HDF5),
    Case("wrong magic", content(lambda data: b"\x88" + data[1:]), NOT_HDF5),
    Case("a pickle", content(lambda data: b"\x80\x04\x95\x00."), NOT_HDF5),
    Case(
        "HDF5 without weights",
        weights(lambda f: [f.pop(k) for k in list(f)]),
        (WEIGHTS, "no Keras weights"),
    ),
    Case(
        "layers that are an array",
        weights(lambda f: (f.pop("layers"), f.__setitem__("layers", 5))),
        (WEIGHTS,),
    ),
    Case(
        "a layer missing", weights(lambda f: f["layers"].pop("conv2d_1")), (WEIGHTS, "bands of dem")
    ),
    Case(
        "an array missing",
        weights(lambda f: f["layers"].pop(first(f))),
        (WEIGHTS, "does not fit resunet"),
    ),
    Case(
        "another shape", array(lambda values: values[..., None]), (WEIGHTS, "does not fit resunet")
    ),
    Case("strings", array(lambda values: np.full(values.shape, b"x")), (WEIGHTS, "numbers")),
    Case("complex", array(lambda values: values * 1j), (WEIGHTS, "numbers")),
    Case("NaN", array(lambda values: values * np.nan), (WEIGHTS, "not finite")),
    Case("infinite", array(lambda values: values + np.inf), (WEIGHTS, "not finite")),
    Case("10^12 weights, never written", weights(declared), (WEIGHTS, "never written")),
    Case("an external link", linked(h5py.ExternalLink("/etc/other.h5", "/x")), (WEIGHTS, "link")),
    Case("a soft link", linked(h5py.SoftLink("/layers")), (WEIGHTS, "link")),
    Case("weights in another file", weights(external), (WEIGHTS, "other files")),
    Case(
        "the sizes of another network",
        built(sizes=SIZES | {"filters": 8}),
        (WEIGHTS, "does not fit resunet", "conv"),
    ),
    Case(
        "10^9 filters", built(sizes=SIZES | {"filters": 10**9}), (WEIGHTS, "filters", "1000000000")
    ),
    Case("4096 filters", built(sizes=SIZES | {"filters": 4096}), (WEIGHTS, "filters", "4096")),
    Case("steps: 8", built(sizes=SIZES | {"steps": 8}, patch_size=256), (WEIGHTS, "does not fit")),
    Case(
        "10^9 bands", built(inputs={"optical": 10**9, "dem": 1}), (WEIGHTS, "optical", "1000000000")
    ),
    Case("bands in words", built(inputs={"optical": "two", "dem": 1}), (WEIGHTS, "optical", "two")),
    Case("inputs that are a list", built(inputs=[1, 2]), (WEIGHTS, "inputs")),
    Case("a patch of 10^9 pixels", built(patch_size=10**9), (WEIGHTS, "patch_size", "1000000000")),
    Case("no patch size", built(patch_size=None), (WEIGHTS, "patch_size")),
    Case("an unknown network", built(architecture="unet"), (WEIGHTS, "'unet'", "resunet")),
    Case("an unknown size", built(sizes={"width": 1}), (WEIGHTS, "'width'")),
    Case("sizes that are a word", built(sizes="small"), (WEIGHTS, "sizes")),
    Case("what it is for is no JSON", said("{"), (WEIGHTS, "what it is for")),
    Case("what it is for is a list", said("[1]"), (WEIGHTS, "what it is for")),
    Case("what it is for is a number", said(7), (WEIGHTS, "what it is for")),
    Case("another source first", built(inputs={"dem": 1, "optical": 2}), (WEIGHTS, "does not fit")),
    Case("a published file of unknown layers", weights(published), (WEIGHTS, "fusion")),
    Case("an empty record", record(b""), (*RECORD, "JSON")),
    Case("a record cut short", record(b'{"scaling": {"opt'), (*RECORD, "JSON")),
    Case("a record of bytes", record(bytes(range(256))), (*RECORD, "UTF-8")),
    Case("a record that is a list", record(b"[1]"), RECORD),
    Case("a record nested 100000 deep", record(b"[" * 100_000), (*RECORD, "JSON")),
    Case(
        "a record of other weights",
        record(b'{"weights": "0123456789abcdef", "scaling": {}}'),
        (*RECORD, WEIGHTS, "as it is now"),
    ),
    Case("a record without scaling", record(b"{}"), (*RECORD, "scaling")),
    Case(
        "scaling of another number of bands",
        scaling(optical={"low": [0], "high": [9]}),
        (*RECORD, "optical", "2"),
    ),
    Case(
        "scaling of NaN", scaling(dem={"low": [0], "high": [float("nan")]}), (*RECORD, "dem", "nan")
    ),
    Case("scaling to nothing", scaling(dem={"low": [9], "high": [9]}), (*RECORD, "dem", "9")),
    Case("scaling in words", scaling(dem={"low": ["a"], "high": ["b"]}), (*RECORD, "dem", "'a'")),
    Case("a calibration cut short", calibration(b'{"temp'), ("mine.calibration.json", "JSON")),
    Case(
        "a calibration of other weights",
        calibration(b'{"slope": 1, "shift": 0, "weights": "x"}'),
        ("mine.calibration.json", "other weights"),
    ),
    Case(
        "a calibration with a slope of NaN",
        calibration(b'{"slope": NaN, "shift": 0}'),
        ("mine.calibration.json", "slope", "nan"),
    ),
    Case(
        "a calibration with a slope of 0",
        calibration(b'{"slope": 0, "shift": 0}'),
        ("mine.calibration.json", "slope", "0"),
    ),
    Case(
        "a calibration with a shift in words",
        calibration(b'{"slope": 1, "shift": "a"}'),
        ("mine.calibration.json", "shift", "'a'"),
    ),
]
