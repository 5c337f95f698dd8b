"""Predict tiles of any size from overlapping windows, blended as published."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import xarray as xr

from glavitu.bands import check_count
from glavitu.devices import on_gpu_of_jax
from glavitu.errors import InputError
from glavitu.files import locked, read_json
from glavitu.folding import folded
from glavitu.hdf5 import check_finite
from glavitu.hdf5_writing import write_netcdf
from glavitu.models import inputs_of
from glavitu.outputs import Outputs, read_built
from glavitu.prediction_datasets import (
    as_prediction,
    change_of,
    clear_predictions,
    is_predicted,
    write_predicted,
)
from glavitu.profiles import load_profile
from glavitu.progress import progress, say
from glavitu.provenance import by_other_code, fingerprint
from glavitu.tiles import find_split, open_tiles
from glavitu.trained import find_trained
from glavitu.windows import ahead, blend, check_stride, window_starts


def predict_tile(model, tile, *, stride=None, batch_size=8):
    """Predict one tile.

    Windows of the network's patch size, `stride` pixels apart (the last ones flush with the edge),
    are averaged with the weights of `window_weights`; the padding is cut off.

    Parameters
    ----------
    model : keras.Model
        A network made by `build_model`.
    tile : xarray.Dataset
        A tile of `open_tiles`: one variable (y, x, band) per input of the network. Of a part
        of a tile, as of ``isel``, set `padding_height` and `padding_width` to what is left.
    stride : int, optional
        Step between windows, in pixels, at most a window; by default half of one, as published.
    batch_size : int
        Windows predicted at once.

    Returns
    -------
    xarray.Dataset
        ``probability`` (y, x), float32, of the class glacier; ``glacier`` (y, x), uint8, its
        argmax; and, where the tile has them, ``groundtruth`` (y, x), uint8, 255 where unlabelled,
        and ``surface`` (y, x), uint8.

    Raises
    ------
    InputError
        If the tile lacks a source, is smaller than a window or holds values that are not finite, or
        the stride would leave gaps.
    """
    size, sources = inputs_of(model)
    if (classes := model.output["output"].shape[-1]) != 2:
        raise InputError(f"{model.name} tells {classes} classes apart; a map has 2")
    stride = check_stride(stride, size)
    if not isinstance(tile, xr.Dataset):
        raise InputError(
            f"a tile is a {type(tile).__name__}, expected an xarray.Dataset, such as one of "
            "open_tiles(path).values()"
        )
    tile = tile.transpose("y", "x", ..., missing_dims="ignore")
    where = _named(tile)
    for source, bands in sources.items():
        if source not in tile:
            raise InputError(f"{where} has no {source!r}, which the network needs")
        if tile[source].ndim != 3 or tile[source].dims[:2] != ("y", "x"):
            raise InputError(
                f"{where}: {source!r} has the dimensions "
                f"{', '.join(map(str, tile[source].dims))}; expected y, x and one of bands"
            )
        check_count(where, source, tile[source].shape[2], bands)
    arrays = {source: tile[source].values.astype(np.float32, copy=False) for source in sources}
    shape = (tile.sizes["y"], tile.sizes["x"])
    if min(shape) < size:
        raise InputError(
            f"{where} is {shape[0]}x{shape[1]} pixels, smaller than a window of {size}"
        )
    network = folded(model)
    if on_gpu_of_jax():
        from glavitu.device_blending import blended

        with ThreadPoolExecutor(1) as thread:
            checked = thread.submit(_check_all, tile, arrays)
            found = blended(network, arrays, size, stride, batch_size)
        checked.result()
        return as_prediction(tile, *found)
    _check_all(tile, arrays)
    probabilities = blend(
        lambda windows: _read_windows(arrays, windows, size),
        lambda batch: network.predict_on_batch(batch)["output"],
        shape,
        size,
        stride,
        batch_size,
    )
    background, glacier = np.moveaxis(probabilities, -1, 0)
    return as_prediction(tile, glacier, (glacier > background).astype(np.uint8))


def _check_all(tile, arrays):
    for source, array in arrays.items():
        check_finite(array, f"{_named(tile)}: {source!r}")


def _named(tile):
    return f"tile {tile.attrs['tile']}" if "tile" in tile.attrs else "the tile"


def predict(
    architecture=None,
    *,
    profile="demo",
    data=None,
    out=".",
    name=None,
    weights=None,
    stride=None,
):
    """Predict the test split and write one NetCDF file per tile below ``predictions/NAME``.

    Parameters
    ----------
    architecture : str, optional
        By default that of the training called `name`; one that differs is an error.
    profile : str, Path or Profile
        For the stride, and for sizes and sources where `weights` come without a record.
    data, out, name
        As for `train`; without a name, that of `weights` is its architecture.
    weights : str or Path, optional
        A weight file to use instead of ``weights/NAME.weights.h5``, such as a published one.
    stride : int, optional
        Step between windows, in pixels, instead of the profile's.

    Returns
    -------
    list of Path
        The files, one per tile.

    Raises
    ------
    InputError
        For data or weights that are not there, cannot be read or do not fit each other.
    """
    profile = load_profile(profile)
    built = read_built(weights) if weights and not architecture else None
    name = name or architecture or (built or {}).get("architecture") or "glavitu"
    tiles = open_tiles(find_split(data or profile.data, "test"))
    data = fingerprint(tiles.path)
    trained = find_trained(architecture, profile, tiles, Outputs(out, name), weights)
    size = trained.patch_size
    folder = Path(out) / "predictions" / name
    recipe = {
        "architecture": trained.architecture,
        "inputs": [f"{source} ({bands})" for source, bands in trained.inputs.items()],
        "weights": trained.fingerprint,
        "weights_given": weights is not None,
        "data": data,
        "stride": profile.stride_of(size) if stride is None else check_stride(stride, size),
        "precision": profile.precision,
        "tiles": list(tiles),
    }
    with locked(folder):
        if is_predicted(folder, recipe):
            record = read_json(folder / "predictions.json")
            say(f"{name}: predicted already{by_other_code(record)}")
        else:
            model = trained.load_for(tiles, labelled=False)
            tiles.check_values(trained.inputs)
            if change := change_of(folder, recipe):
                say(f"{name}: the predictions with {change} are replaced")
            clear_predictions(folder)
            _predict_all(model, tiles, folder, recipe)
    return [folder / f"{tile}.nc" for tile in tiles]


def _predict_all(model, tiles, folder, recipe):
    """Write a file for each tile, then the record that says that all are there.

    While one is predicted, a thread reads the next one and another writes the last one.
    """
    size, _ = inputs_of(model)
    windows = sum(
        len(window_starts(height, size, recipe["stride"]))
        * len(window_starts(width, size, recipe["stride"]))
        for height, width in (tiles.shape(tile) for tile in tiles)
    )
    started = time.perf_counter()
    read = ahead(lambda tile: tiles[tile].load(), tiles)
    predicted = (predict_tile(model, tile, stride=recipe["stride"]) for tile in read)
    written = ahead(lambda one: write_netcdf(one, folder / f"{one.attrs['tile']}.nc"), predicted)
    for _ in progress(written, description=folder.name, total=len(tiles)):
        pass
    write_predicted(
        folder,
        recipe,
        architecture=model.name,
        parameters=model.count_params(),
        windows=windows,
        seconds=round(time.perf_counter() - started, 3),
    )


def _read_windows(arrays, windows, size):
    return {
        source: np.stack([array[r : r + size, c : c + size] for r, c in windows])
        for source, array in arrays.items()
    }
