"""Calibrate the confidence of a network: fit slope and shift to the validation tiles."""

import pandas as pd

from glavitu.differences import changes
from glavitu.errors import InputError
from glavitu.evaluation import (
    calibration_error,
    count_probabilities,
    read_prediction,
    reliability_curves,
)
from glavitu.files import locked, scratch, write_json
from glavitu.hdf5_writing import write_netcdf
from glavitu.outputs import Outputs, calibration_path
from glavitu.platt import Histogram, calibrated, read_checked
from glavitu.prediction import predict_tile
from glavitu.profiles import load_profile
from glavitu.progress import progress, say
from glavitu.provenance import fingerprint, provenance
from glavitu.tiles import UNLABELLED, find_split, open_tiles
from glavitu.trained import find_trained


def calibrate(name, *, profile="demo", data=None, out="."):
    """Fit slope and shift of a training to the validation tiles (see `glavitu.platt`).

    Parameters
    ----------
    name : str
        Of the training; ``weights/NAME.calibration.json`` is written beside its weights. One that
        is there for the same weights, data and stride is returned as it is.
    profile : str, Path or Profile
        For the stride.
    data, out
        As for `train`.

    Returns
    -------
    dict
        What was written: slope and shift; ece_before and ece_after, the expected calibration error
        (see `glavitu.evaluation.calibration_error`); pixels, how many were labelled; bins, the
        pixels by probability (see `reliability`); what it was made of and with.

    Raises
    ------
    InputError
        For data or a training that is not there, or validation tiles of one class alone.
    """
    profile = load_profile(profile)
    tiles = open_tiles(find_split(data or profile.data, "val"))
    data_used = fingerprint(tiles.path)
    trained = find_trained(None, profile, tiles, Outputs(out, name))
    recipe = {
        "weights": trained.fingerprint,
        "data": data_used,
        "stride": profile.stride_of(trained.patch_size),
        "precision": profile.precision,
    }
    path = calibration_path(trained.weights)
    with locked(path):
        return _find(path, recipe) or _fit(path, recipe, trained, tiles)


def _fit(path, recipe, trained, tiles):
    """Predict the tiles, fit slope and shift and write what came of it."""
    model = trained.load_for(tiles)
    with scratch(path.with_name(f".part-{path.stem}")) as folder:
        files = [folder / f"{i}.nc" for i in range(len(tiles))]
        pairs = zip(tiles.values(), files, strict=True)
        for tile, file in progress(pairs, total=len(files), description=path.stem):
            prediction = predict_tile(model, tile, stride=recipe["stride"])
            write_netcdf(prediction, file)
        result = _compare(files)
    result |= recipe | {"provenance": provenance()}
    write_json(path, result)
    return result


def _compare(files):
    """Fit slope and shift to predictions in files, and count pixels before and after."""
    histogram = Histogram()
    for prediction in map(read_prediction, files):
        truth, probability = prediction["groundtruth"].values, prediction["probability"].values
        labelled = truth != UNLABELLED
        histogram.add(probability[labelled], truth[labelled] == 1)
    calibration = histogram.fit()
    tables = {"before": _count(files, None), "after": _count(files, calibration)}
    bins = pd.concat([table.assign(method=method) for method, table in tables.items()])
    errors = {f"ece_{method}": float(calibration_error(t)) for method, t in tables.items()}
    return {
        **calibration._asdict(),
        **errors,
        "pixels": int(histogram.pixels.sum()),
        "bins": bins.to_dict("records"),
    }


def _count(files, calibration):
    tables = []
    for prediction in map(read_prediction, files):
        probability = calibrated(prediction["probability"], calibration)
        prediction["probability"] = (("y", "x"), probability)
        tables.append(count_probabilities(prediction))
    return pd.concat(tables).groupby("bin", as_index=False).sum()


def reliability(calibration):
    """Return the curves of `reliability_curves` ``before`` and ``after``, of a `calibrate`."""
    return reliability_curves(pd.DataFrame(calibration["bins"]))


def _find(path, recipe):
    """Return the calibration at `path` if it is whole and was made by this recipe.

    Say so where it was made by another one, and is to be replaced.
    """
    try:
        content = read_checked(path)
    except (FileNotFoundError, InputError):
        return None
    unspoken = {key: f"other {key}" for key in ("weights", "data")}
    if change := changes({key: content.get(key) for key in recipe}, recipe, unspoken):
        say(f"{path.name}: the calibration with {change} will be replaced")
        return None
    return content
