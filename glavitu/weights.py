"""Load weights: our own `.weights.h5` files (Keras 3) and the published ones (Keras 2 `.h5`).

Every shape is checked before the first weight is set, so a file that does not fit leaves the model
as it was.
"""

import json
import math
import re
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import h5py

from glavitu.backend import resolve
from glavitu.errors import InputError
from glavitu.files import replacing, reserve
from glavitu.hdf5 import check_all, check_finite, plain, reading
from glavitu.models import build_model, inputs_of, sizes_of
from glavitu.outputs import open_weights, read_built
from glavitu.profiles import BASELINES

ROOM = 1 << 20  # bytes, for what a weight file holds beside the weights
# The layers of a published file that hold weights, in the file's order, as the prefixes of our
# layers' names. Within each, a file lists weights in creation order, statistics after the others.
PUBLISHED_STAGES = {
    "setr": [("fusion_",), ("setr_",)],
    "resunet": [("fusion_",), ("resunet_", "output")],
    "transunet": [("fusion_",), ("encoder_",), ("vit_",), ("bottom_",), ("decoder_",), ("output",)],
    "glavitu": [("fusion_",), ("setr_",), ("resunet_",), ("deepsupervision",), ("output",)],
}


def load_weights(model, path):
    """Load the weights at `path` into `model`; the file's content decides how it is read.

    Parameters
    ----------
    model : keras.Model
        A network made by `build_model`, with the sizes and sources the file was written for.
    path : str or Path
        A file written by ``model.save_weights("….weights.h5")`` (Keras 3) or a pretrained file of
        the paper's authors (Keras 2).

    Raises
    ------
    InputError
        If the file is no weight file or does not fit; names the first layer that does not fit. Also
        if it holds links, weights in other files, or weights that are not finite.
    """
    path = Path(path)
    with _opened(path) as file:
        if "layer_names" in file.attrs:
            _load_published(model, file)
            return
        _check_sources(model, file)
        _check_keras3(model, file)
    if not path.name.endswith(".weights.h5"):  # by which Keras knows its own files
        raise InputError(f"{path} is a file of Keras 3, which must be named NAME.weights.h5")
    with reading(f"{path} does not fit {model.name}: it"):
        model.load_weights(path)


@contextmanager
def _opened(path):
    """Open a weight file and refuse what no weight file holds."""
    with open_weights(path) as file, reading(path):
        for key, array in check_all(file).items():
            check_finite(array[()], f"{path}: {key}", "train again")
        if "model_weights" in file:
            raise InputError(
                f"{path} holds a whole model of Keras; load that with keras.models.load_model and "
                "save its weights"
            )
        if "layer_names" not in file.attrs and "layers" not in file:
            raise InputError(f"{path} is HDF5 but holds no Keras weights")
        yield file


def save_weights(model, path):
    """Write weights as Keras 3 does, and in the same file what `load_model` needs to build it all.

    `map_scene` also needs the record that `train` writes beside them.

    Parameters
    ----------
    model : keras.Model
        A network made by `build_model`.
    path : str or Path
        A name that ends with ``.weights.h5``; the file is whole or absent.

    Raises
    ------
    InputError
        For another name, or a network that is not of `build_model`: its sizes are not known.
    """
    with saving_weights(model, path):
        pass


@contextmanager
def saving_weights(model, path):
    """Write weights as `save_weights` does; yield their file, put in place after the block."""
    if not Path(path).name.endswith(".weights.h5"):
        raise InputError(f"{path} is no name for weights; it must end with .weights.h5")
    inference = type(model)(model.input, model.output, name=model.name)  # without the optimizer
    patch_size, inputs = inputs_of(model)
    built = {
        "architecture": model.name,
        "inputs": inputs,
        "patch_size": patch_size,
        "sizes": sizes_of(model),
    }
    size = sum(math.prod(variable.shape) * 4 for variable in inference.variables)
    with replacing(path) as part:
        reserve(part, size + ROOM)  # the HDF5 library crashes where the disk is full
        inference.save_weights(part)
        with h5py.File(part, "r+") as file:
            file.attrs["glavitu"] = json.dumps(built)
        yield part


def load_model(path, *, precision="float32"):
    """Build the network a weight file of ours was written for, and load its weights.

    Parameters
    ----------
    path : str or Path
        A file written by `train` or `save_weights`.
    precision : str
        As for `build_model`; the file is the same for all.

    Returns
    -------
    keras.Model

    Raises
    ------
    InputError
        For a file that is missing, or not ours: it does not say which network it is for.
    """
    precision = resolve(precision)  # first, so that a wrong one is not taken for a broken file
    built = read_built(path)
    if built is None:
        raise InputError(
            f"{path} does not say which network it is for; use build_model and load_weights"
        )
    with _opened(path) as file:
        _check_sizes(file, built)
    sizes = built.pop("sizes")
    try:
        model = build_model(built.pop("architecture"), **built, precision=precision, **sizes)
    except InputError as error:
        raise InputError(f"{path} is for a network that cannot be: {error}") from None
    load_weights(model, path)
    return model


def _check_sizes(file, built):
    """Refuse bands and sizes that no array of the file has: the network could be of any size."""
    stored = set()
    file.visititems(lambda _, item: stored.update(getattr(item, "shape", ())))
    bands = {f"bands of {source}": number for source, number in built["inputs"].items()}
    if built["architecture"] in BASELINES:  # which take the bands of all sources together
        bands = {"bands": sum(bands.values())}
    for name, size in (built["sizes"] | bands).items():
        counted = name in ("blocks", "steps", "heads", "vit_patch", "dilations", "dropout")
        for number in size if isinstance(size, list) else [size]:
            if not counted and number not in stored:
                raise InputError(
                    f"{file.filename} says {name} {number}, but no weight in it has that size"
                )


def _check_sources(model, file):
    """Refuse a file whose sources come in another order: equal shapes would hide the swap."""
    if "glavitu" not in file.attrs:
        return
    expected, found = list(model.input), list(json.loads(file.attrs["glavitu"])["inputs"])
    if expected != found:
        raise InputError(
            f"{file.filename} was written for the sources {', '.join(found)}, in this order; the "
            f"model has {', '.join(expected)}"
        )


def _load_published(model, file):
    weights = _published_order(model, _names(file.attrs["layer_names"]))
    stored = [
        (f"{layer}/{name}", file[layer][name])
        for layer in _names(file.attrs["layer_names"])
        for name in _names(file[layer].attrs.get("weight_names", []))
    ]
    for weight, (name, dataset) in zip(weights, stored, strict=False):
        _check_shape(model, file, weight.path, tuple(weight.shape), name, dataset.shape)
    if len(weights) != len(stored):
        more, surplus = ("file", stored) if len(stored) > len(weights) else ("model", weights)
        first = surplus[min(len(weights), len(stored))]
        raise InputError(
            f"{file.filename} does not fit {model.name}: it has {len(stored)} weights, the model "
            f"{len(weights)}; the first that only the {more} has is "
            f"{first[0] if more == 'file' else first.path}"
        )
    for weight, (_, dataset) in zip(weights, stored, strict=True):
        weight.assign(dataset[()])


def _published_order(model, file_layers):
    """Return the model's weights in the order of a published file."""
    if model.name not in PUBLISHED_STAGES:
        raise InputError(f"no published weights exist for {model.name}")
    sources = list(model.input)
    if set(sources) <= set(file_layers):
        sources.sort(key=file_layers.index)
    weights = []
    for prefixes in PUBLISHED_STAGES[model.name]:
        layers = [layer for layer in model.layers if layer.name.startswith(prefixes)]
        if prefixes == ("fusion_",):
            # Keras orders parallel branches layer by layer, the published Fusion branch by branch.
            branch = {s: re.compile(rf"fusion_{re.escape(s)}_(conv|norm)\d") for s in sources}
            layers = [x for s in sources for x in layers if branch[s].fullmatch(x.name)]
        stage = [weight for layer in layers for weight in layer.weights]
        # whatever is trainable now, statistics of batch normalization come last
        weights += sorted(stage, key=lambda weight: weight.name.startswith("moving_"))
    return weights


def _check_keras3(model, file):
    """Compare the shapes in each layer's group of a Keras 3 file with the model's."""
    stored = {key: _shapes_below(group) for key, group in file["layers"].items()}
    counts, called = Counter(), {}
    for layer in model.layers:
        key = _snake_case(type(layer).__name__)
        counts[key] += 1
        key += f"_{counts[key] - 1}" if counts[key] > 1 else ""
        expected = sorted(tuple(w.shape) for w in layer.weights)
        found = stored.pop(key, [])
        called[layer.name] = _layer_name(file["layers"], key)
        if expected != found:
            _check_shape(model, file, layer.name, expected, key, found)
    surplus = [key for key, shapes in stored.items() if shapes]
    if surplus:
        raise InputError(
            f"{file.filename} does not fit {model.name}: it has a layer {surplus[0]} that the "
            "model has not"
        )
    for ours, theirs in called.items():  # equal shapes would hide a swap of sources
        if theirs != ours and theirs in called and theirs.startswith("fusion_"):
            raise InputError(
                f"{file.filename} has {theirs} where the model has {ours}: build the model with "
                "the sources in the order that the file was written for"
            )


def _layer_name(layers, key):
    """Return what a Keras 3 file calls the layer of a group, an empty text where it does not."""
    variables = layers.get(f"{key}/vars")
    return str(plain(variables.attrs).get("name", "")) if variables is not None else ""


def _check_shape(model, file, layer, expected, name, found):
    if expected != found:
        raise InputError(
            f"{file.filename} does not fit {model.name}: layer {layer} expects {expected}, the "
            f"file has {found or 'nothing'} in {name}; build the model with the sizes and sources "
            "the file was written for"
        )


def _shapes_below(group):
    shapes = []
    group.visititems(
        lambda name, item: (
            shapes.append(item.shape)
            if isinstance(item, h5py.Dataset) and "seed_generator" not in name
            else None
        )
    )
    return sorted(shapes)


def _snake_case(name):
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)).lower()


def _names(values):
    return [v.decode() if isinstance(v, bytes) else str(v) for v in values]
