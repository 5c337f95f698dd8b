"""Score predictions: pixel counts per tile, pooled per region, and the mean over regions."""

from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from glavitu.errors import InputError
from glavitu.files import locked, read_json, replacing
from glavitu.hdf5 import check_all, open_file, reading
from glavitu.outputs import Outputs
from glavitu.provenance import fingerprint
from glavitu.surfaces import UNKNOWN
from glavitu.tiles import UNLABELLED

COUNTS = ["tp", "tn", "fp", "fn"]
BINS = 20  # of the probability, in `count_probabilities`


def score(predictions):
    """Count the pixels of each prediction against its label.

    Parameters
    ----------
    predictions : xarray.Dataset, path, or iterable of either
        Results of `predict_tile` with ``groundtruth``, or files of `predict`; unlabelled pixels
        (255 or NaN) do not count.

    Returns
    -------
    pandas.DataFrame
        A row per tile: tile, region, tp, tn, fp, fn (pixels; glacier is positive) and the scores of
        `with_scores`.

    Raises
    ------
    InputError
        For a prediction without ``groundtruth``, or no prediction at all.
    """
    if isinstance(predictions, xr.Dataset | str | Path):
        predictions = [predictions]
    counts = [
        _count(_read_file(each) if isinstance(each, str | Path) else each) for each in predictions
    ]
    if not counts:
        raise InputError("there are no predictions to score")
    return with_scores(pd.DataFrame(counts))


def pool(scores, by="region"):
    """Sum the counts of tiles by one or several columns and score the sums.

    Examples
    --------
    >>> tiles = pd.DataFrame({"region": "ALP", "tp": [1, 2], "tn": 0, "fp": [1, 0], "fn": 0})
    >>> float(pool(tiles)["IoU"].iloc[0])
    0.75
    """
    return with_scores(scores.groupby(by, sort=True, as_index=False, dropna=False)[COUNTS].sum())


def with_scores(counts):
    """Return the table of counts with IoU, F1, precision, recall and accuracy; 0/0 is NaN."""
    tp, tn, fp, fn = (counts[column].astype("int64") for column in COUNTS)
    return counts.assign(
        IoU=tp / (tp + fp + fn),
        F1=2 * tp / (2 * tp + fp + fn),
        precision=tp / (tp + fp),
        recall=tp / (tp + fn),
        accuracy=(tp + tn) / (tp + tn + fp + fn),
    )


def count_surfaces(prediction):
    """Count the pixels of a prediction by what the ground is.

    Parameters
    ----------
    prediction : xarray.Dataset
        With ``surface`` (y, x), codes as `glavitu.compile_tiles` describes them.

    Returns
    -------
    pandas.DataFrame
        A row per code in the tile: tile, region, code and the counts of pixels.
    """
    codes = prediction["surface"].values
    rows = []
    for code in np.unique(codes[codes != UNKNOWN]):
        rows.append(_count(prediction, codes == code) | {"code": int(code)})
    return pd.DataFrame(rows, columns=["tile", "region", "code", *COUNTS])


def count_probabilities(prediction):
    """Count labelled pixels and glacier pixels by predicted probability.

    Returns
    -------
    pandas.DataFrame
        A row per bin of 1 / `BINS`: bin (from 0), pixels, glacier (pixels), total (sum of their
        probabilities).
    """
    labelled = prediction["groundtruth"].values < UNLABELLED
    probability = prediction["probability"].values[labelled].astype(np.float64)
    glacier = prediction["groundtruth"].values[labelled] == 1
    bins = np.clip((probability * BINS).astype(int), 0, BINS - 1)
    return pd.DataFrame(
        {
            "bin": range(BINS),
            "pixels": np.bincount(bins, minlength=BINS),
            "glacier": np.bincount(bins, glacier, BINS).astype(np.int64),
            "total": np.bincount(bins, probability, BINS),
        }
    )


def calibration_error(bins):
    """Return the expected calibration error of pooled counts of `count_probabilities`.

    The mean of the distance between predicted probability and share of glacier over bins, weighted
    by their pixels (Naeini et al., 2015).
    """
    return (bins["total"] - bins["glacier"]).abs().sum() / bins["pixels"].sum()


def reliability_curves(bins):
    """Return counts by method and bin with what `glavitu.charts.plot_reliability` draws.

    That is the mean probability and the share of glacier of a bin, and the expected calibration
    error of the method.
    """
    errors = {method: calibration_error(table) for method, table in bins.groupby("method")}
    return bins.assign(
        probability=bins["total"] / bins["pixels"],
        share=bins["glacier"] / bins["pixels"],
        error=bins["method"].map(errors),
    )


def evaluate(name, *, out=".", architecture=None):
    """Score the predictions called `name` and write tables beside them.

    In ``predictions/NAME``: ``scores.csv``, a row per tile; ``reliability.csv``, pixels by
    predicted probability; and ``surfaces.csv``, pixels by what the ground is, where the tiles say.
    With an architecture, predictions by another one are refused.

    Returns
    -------
    pandas.DataFrame
        A row per tile, as of `score`.

    Raises
    ------
    InputError
        Where there are no predictions of that name, or what is there cannot be read or is by
        another architecture, or the training of that name has other weights by now.
    """
    weights, folder = Outputs(out, name).weights, Path(out) / "predictions" / name
    if not (folder / "predictions.json").exists():
        raise InputError(f"no predictions in {folder}; run predict first")
    with locked(folder):
        recipe = read_json(folder / "predictions.json", "recipe")["recipe"]
        tiles = recipe.get("tiles") if isinstance(recipe, dict) else None
        if not tiles or not isinstance(tiles, list):
            raise InputError(f"{folder / 'predictions.json'} names no tiles; run predict again")
        if architecture not in (None, found := recipe.get("architecture")):
            raise InputError(f"the predictions in {folder} are by {found}, not {architecture}")
        given = recipe.get("weights_given")
        if weights.exists() and not given and recipe.get("weights") != fingerprint(weights):
            raise InputError(f"the predictions in {folder} are not by {weights}; run predict again")
        return _evaluate(folder, tiles)


def _evaluate(folder, tiles):
    files = {file.stem: file for file in sorted(folder.glob("[!.]*.nc"))}
    if missing := [tile for tile in tiles if tile not in files]:
        raise InputError(f"no prediction of tile {missing[0]} in {folder}; run predict again")
    counts, bins, surfaces = [], [], []
    for tile in tiles:
        prediction = read_prediction(files[tile])
        counts.append(_count(prediction))
        bins.append(count_probabilities(prediction))
        if "surface" in prediction:
            surfaces.append(count_surfaces(prediction))
    scores = with_scores(pd.DataFrame(counts))
    tables = {"reliability": pd.concat(bins).groupby("bin", as_index=False).sum()}
    if any(len(table) for table in surfaces):
        tables["surfaces"] = pd.concat(surfaces)
    else:
        (folder / "surfaces.csv").unlink(missing_ok=True)
    for key, table in (tables | {"scores": scores}).items():
        with replacing(folder / f"{key}.csv") as part:
            table.to_csv(part, index=False)
    return scores


def without_glacier(scores):
    """Return the regions whose labels hold no glacier: whatever is mapped there, IoU says nothing.

    Without false alarms it is 0/0, with a single one it is 0; so they count in no mean.
    """
    regions = pool(scores)
    return regions.loc[regions["tp"] + regions["fn"] == 0, "region"].tolist()


def summarise(scores):
    """Return mean and standard deviation of IoU over regions, and the IoU of all pixels pooled.

    Regions `without_glacier` are left out of the mean and the standard deviation.
    """
    regions = pool(scores).set_index("region")["IoU"].drop(without_glacier(scores))
    everything = pool(scores.assign(all="all"), by="all")["IoU"].iloc[0]
    return {"mean": regions.mean(), "std": regions.std(ddof=0), "pooled": everything}


def _read_file(path):
    if not Path(path).is_file():
        raise InputError(f"no file of a prediction at {path}")
    return read_prediction(path)


def read_prediction(path):
    """Read a prediction written by `predict` into memory."""
    where = f"{path}, which predict makes anew,"
    with open_file(path, hint="; predict makes it anew") as file, reading(where):
        check_all(file)
    with (
        reading(where),
        xr.open_dataset(path, engine="h5netcdf", mask_and_scale=False) as prediction,
    ):
        missing = {"glacier", "probability"} - set(prediction)
        if missing:
            raise InputError(f"{path} has no {min(missing)!r}; run predict again")
        for text in prediction.attrs.values():
            str(text).encode()  # raises where it is no UTF-8, which tables would not take
        return prediction.load()


def _count(prediction, where=True):
    tile = prediction.attrs.get("tile")
    if "glacier" not in prediction:
        raise InputError(f"tile {tile} has no glacier to score; predict it first")
    if "groundtruth" not in prediction:
        raise InputError(f"the prediction of tile {tile} has no groundtruth to score against")
    prediction = prediction.transpose("y", "x", ..., missing_dims="ignore")
    truth, found = prediction["groundtruth"].values, prediction["glacier"].values == 1
    labelled, glacier = where & (truth < UNLABELLED), truth == 1  # NaN is less than nothing
    return {
        "tile": tile,
        "region": prediction.attrs.get("region"),
        "tp": int((labelled & glacier & found).sum()),
        "tn": int((labelled & ~glacier & ~found).sum()),
        "fp": int((labelled & ~glacier & found).sum()),
        "fn": int((labelled & glacier & ~found).sum()),
    }
