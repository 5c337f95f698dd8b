"""Score predictions: pixel counts per tile, pooled per region, and the mean over regions."""

from pathlib import Path

import pandas as pd
import xarray as xr

from glavitu.errors import InputError
from glavitu.files import replacing
from glavitu.tiles import UNLABELLED

COUNTS = ["tp", "tn", "fp", "fn"]


def score(predictions):
    """Count the pixels of each prediction against its label.

    Parameters
    ----------
    predictions : iterable of xarray.Dataset
        Results of `predict_tile` with ``groundtruth``; unlabelled pixels (255) do not count.

    Returns
    -------
    pandas.DataFrame
        A row per tile: tile, region, tp, tn, fp, fn (pixels; glacier is positive) and the scores of
        `with_scores`.
    """
    return with_scores(pd.DataFrame([_count(prediction) for prediction in predictions]))


def pool(scores, by="region"):
    """Sum the counts of tiles by one or several columns and score the sums.

    Examples
    --------
    >>> tiles = pd.DataFrame({"region": "ALP", "tp": [1, 2], "tn": 0, "fp": [1, 0], "fn": 0})
    >>> float(pool(tiles)["IoU"].iloc[0])
    0.75
    """
    return with_scores(scores.groupby(by, sort=True, as_index=False)[COUNTS].sum())


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


def evaluate(name, *, out="."):
    """Score the predictions called `name` and write ``predictions/NAME/scores.csv``.

    Returns
    -------
    pandas.DataFrame
        A row per tile, as of `score`.
    """
    folder = Path(out) / "predictions" / name
    files = sorted(folder.glob("*.nc"))
    if not (folder / "predictions.json").exists() or not files:
        raise InputError(f"no predictions in {folder}; run predict first")
    scores = score(read_prediction(file) for file in files)
    with replacing(folder / "scores.csv") as part:
        scores.to_csv(part, index=False)
    return scores


def summarise(scores):
    """Return mean and standard deviation of IoU over regions, and the IoU of all pixels pooled."""
    regions = pool(scores)["IoU"]
    everything = pool(scores.assign(all="all"), by="all")["IoU"].iloc[0]
    return {"mean": regions.mean(), "std": regions.std(ddof=0), "pooled": everything}


def read_prediction(path):
    """Read a prediction written by `predict` into memory."""
    with xr.open_dataset(path, engine="h5netcdf", mask_and_scale=False) as prediction:
        return prediction.load()


def _count(prediction):
    tile = prediction.attrs.get("tile")
    if "groundtruth" not in prediction:
        raise InputError(f"the prediction of tile {tile} has no groundtruth to score against")
    truth, found = prediction["groundtruth"].values, prediction["glacier"].values == 1
    labelled, glacier = truth != UNLABELLED, truth == 1
    return {
        "tile": tile,
        "region": prediction.attrs.get("region"),
        "tp": int((labelled & glacier & found).sum()),
        "tn": int((labelled & ~glacier & ~found).sum()),
        "fp": int((labelled & ~glacier & found).sum()),
        "fn": int((labelled & glacier & ~found).sum()),
    }
