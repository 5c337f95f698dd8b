"""The networks of the study and `build_model`, which builds any of them for any set of sources."""

import inspect
import re
from collections.abc import Mapping
from numbers import Real
from weakref import WeakKeyDictionary

from glavitu.backend import in_precision, keras, resolve
from glavitu.errors import InputError
from glavitu.models.baselines import STRIDE, deeplabv3plus, segformer
from glavitu.models.glavitu import glavitu
from glavitu.models.resunet import resunet
from glavitu.models.setr import setr
from glavitu.models.transunet import transunet
from glavitu.units import is_whole

NETWORKS = {"setr": setr, "resunet": resunet, "transunet": transunet, "glavitu": glavitu}
BASELINES = {"deeplabv3plus": deeplabv3plus, "segformer": segformer}
LARGEST = 1 << 13  # of the sizes, bands and patches that networks are built with
_SIZES = WeakKeyDictionary()  # of each network that was built
PUBLISHED_INPUTS = {"optical": 6, "dem": 2, "sar": 2}


def build_model(
    architecture, *, inputs=PUBLISHED_INPUTS, patch_size=384, precision="float32", **sizes
):
    """Build a network, by default at its published size.

    Parameters
    ----------
    architecture : str
        ``"setr"``, ``"resunet"``, ``"transunet"`` or ``"glavitu"``; or a baseline that needs
        keras-cv and TensorFlow, ``"deeplabv3plus"`` or ``"segformer"``.
    inputs : dict of str to int
        Source name (letters, digits and _ . -) -> number of bands; at least one source.
    patch_size : int
        Height and width of the patches the network sees, in pixels.
    precision : str
        What the network computes in: ``"float32"``, ``"bfloat16"``, or ``"auto"``, the faster one
        on this machine. Its variables, its answers and what makes them probabilities are float32
        either way.
    **sizes
        Overrides of the published sizes, e.g. ``filters=16``; see the builder of each network.

    Returns
    -------
    keras.Model
        Takes a dict of (batch, patch_size, patch_size, bands) arrays and returns a dict of
        (batch, patch_size, patch_size, classes) probabilities: ``output`` and, for GlaViTU, also
        ``deepsupervision``.

    Raises
    ------
    InputError
        For an unknown architecture or size, or sizes that do not go together; for a baseline where
        keras-cv or TensorFlow is missing.

    Examples
    --------
    >>> model = build_model("resunet", inputs={"optical": 4}, patch_size=64, filters=8)
    >>> model.output["output"].shape
    (None, 64, 64, 2)
    """
    _check(architecture, inputs, patch_size, sizes)
    inputs, patch_size, sizes = map(_plain, (inputs, patch_size, sizes))
    precision = resolve(precision)
    builder = (NETWORKS | BASELINES)[architecture]
    tensors = {
        source: keras.Input((patch_size, patch_size, bands), name=source, dtype="float32")
        for source, bands in inputs.items()
    }
    with in_precision(precision):
        outputs = builder(tensors, **sizes)
        try:
            model = keras.Model(tensors, outputs, name=architecture)
        except ValueError as error:  # a source is called as a layer of the network is
            raise InputError(f"{architecture} of {', '.join(inputs)}: {error}") from None
    _SIZES[model] = default_sizes(architecture) | sizes
    return model


def inputs_of(model):
    """Return the side of a network's patches in pixels, and source -> bands.

    Raises `InputError` for what answers no square patches of named sources.
    """
    built = isinstance(model, keras.Model) and model.built
    inputs, outputs = (getattr(model, end, None) if built else None for end in ("input", "output"))
    ours = all(isinstance(tensors, dict) for tensors in (inputs, outputs))
    if not ours or "output" not in outputs:
        raise InputError(
            f"a network is a {type(model).__name__}, expected a keras.Model of named sources, with "
            "an answer named output, such as build_model and load_model give"
        )
    shapes = [tensor.shape for tensor in (*inputs.values(), outputs["output"])]
    if len({shape[1:3] for shape in shapes}) > 1 or shapes[0][1] != shapes[0][2]:
        raise InputError(f"{model.name} answers no square patches of one size: {shapes}")
    if any(None in shape[1:] for shape in shapes):
        raise InputError(f"{model.name} takes patches of any size; build it for one")
    return shapes[0][1], {source: tensor.shape[3] for source, tensor in inputs.items()}


def sizes_of(model):
    """Return the sizes that `build_model` made a network with, as of `default_sizes`."""
    if model not in _SIZES:
        raise InputError(f"{model.name} is no network of build_model: its sizes are not known")
    return _SIZES[model]


def default_sizes(architecture):
    """Return the published sizes of a network as a dict of keyword to number or list of numbers."""
    known = NETWORKS | BASELINES
    if architecture not in known:
        raise InputError(f"unknown architecture {architecture!r}; known: {', '.join(known)}")
    parameters = inspect.signature(known[architecture]).parameters.values()
    sizes = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
    # lists, as they come back from the JSON of a training's record
    return {name: list(v) if isinstance(v, tuple) else v for name, v in sizes.items()}


def _check(architecture, inputs, patch_size, overrides):
    published = default_sizes(architecture)
    unknown = sorted(set(overrides) - set(published))
    if unknown:
        raise InputError(
            f"{architecture} has no size {unknown[0]!r}; it has {', '.join(published)}"
        )
    if not inputs or not isinstance(inputs, Mapping):
        raise InputError(f"inputs are {inputs!r}, expected source -> bands of one source or more")
    for source, bands in inputs.items():
        if not isinstance(source, str) or not re.fullmatch(r"[\w.-]+", source):
            raise InputError(f"a source cannot be named {source!r}; use letters, digits and _ . -")
        if not is_whole(bands) or not 1 <= bands <= LARGEST:
            raise InputError(f"{source!r}: {bands!r}, expected 1 band or more, up to {LARGEST}")
    sizes = published | overrides
    for name, size in overrides.items():
        _check_size(architecture, name, size, published[name])
    heads, embed_dim = sizes.get("heads", 1), sizes.get("embed_dim", 1)
    if embed_dim % heads:
        raise InputError(
            f"{architecture}: embed_dim {embed_dim} is not a multiple of heads {heads}"
        )
    vit_patch = sizes.get("vit_patch", 2)
    if vit_patch not in (2, 4, 8, 16, 32):
        raise InputError(f"{architecture}: vit_patch {vit_patch} is not 2, 4, 8, 16 or 32")
    poolings = sizes.get("steps", 0) + (architecture == "transunet")
    factor = STRIDE if architecture in BASELINES else max(vit_patch, 2**poolings)
    if not is_whole(patch_size) or not 1 <= patch_size <= LARGEST or patch_size % factor:
        raise InputError(
            f"{architecture} needs a patch_size up to {LARGEST} that is a multiple of {factor}, "
            f"not {patch_size!r}"
        )


def _plain(value):
    """Return numbers of any kind, in dicts and lists too, as those of Python, which JSON knows."""
    if isinstance(value, Mapping):
        return {name: _plain(number) for name, number in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(number) for number in value]
    return int(value) if is_whole(value) else float(value)


def _check_size(architecture, name, size, published):
    """Refuse numbers that no network has: what they lead to is a crash, or all memory."""
    if name == "dropout":
        if isinstance(size, bool) or not isinstance(size, Real) or not 0 <= size < 1:
            raise InputError(f"{architecture}: dropout is {size!r}, expected 0 or more, below 1")
        return
    most = {"steps": 8, "blocks": 256}.get(name, LARGEST)
    least = 2 if name == "classes" else 1
    several = isinstance(published, list) and isinstance(size, list | tuple)
    for number in size if several else [size]:
        if not is_whole(number) or not least <= number <= most:
            raise InputError(
                f"{architecture}: {name} is {size!r}, expected whole numbers from {least} to {most}"
            )
