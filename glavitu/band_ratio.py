"""Map glaciers by a threshold on a band ratio, as inventories are commonly begun: no learning.

Ice and snow are bright in visible light and dark in the short-wave infrared, so a normalised
difference such as NDSI, (green - SWIR1) / (green + SWIR1), is high on them (Hall et al., 1995; Paul
et al., 2013). A threshold on a plain ratio of two bands is one on their normalised difference.
"""

import time
from pathlib import Path

import numpy as np

from glavitu.errors import InputError
from glavitu.files import locked, read_json
from glavitu.hdf5_writing import write_netcdf
from glavitu.prediction_datasets import (
    as_prediction,
    clear_predictions,
    is_predicted,
    write_predicted,
)
from glavitu.progress import progress
from glavitu.provenance import fingerprint
from glavitu.tiles import find_split, open_tiles

NAME = "band_ratio"
BRIGHT, DARK = ("green", "red", "NIR"), "SWIR1"  # bands on ice: the candidates, and the other one
THRESHOLDS = np.round(np.arange(-0.5, 1, 0.02), 2)


def applies(tiles):
    """Tell whether all tiles have SWIR1 and a brighter band, and their file names them."""
    names = tiles.band_names.get("optical", ())
    known = DARK in names and any(band in names for band in BRIGHT)
    return known and all(tiles.has(tile, "optical") for tile in tiles)


def fit(tiles):
    """Return the rule that maps the tiles best: band, threshold and IoU of all their pixels.

    Parameters
    ----------
    tiles : Tiles
        Training tiles whose optical bands have names: the six of the published data, or others that
        the file names, SWIR1 and one of `BRIGHT` among them.
    """
    if not applies(tiles):
        raise InputError(
            f"{tiles.path} has no optical bands named SWIR1 and {' or '.join(BRIGHT)}, no ratio to "
            "take; compile can name them"
        )
    names = tiles.band_names["optical"]
    bright = [band for band in BRIGHT if band in names]
    hits = {band: np.zeros(len(THRESHOLDS), np.int64) for band in bright}
    found = {band: np.zeros(len(THRESHOLDS), np.int64) for band in bright}
    total = 0
    for name in progress(tiles, description="band ratio"):
        labels = tiles.read(name, "groundtruth")
        labelled, glacier = labels.any(-1), labels[..., 1] > 0.5
        total += int(glacier[labelled].sum())
        optical = reflectance(tiles.read(name, "optical"), tiles.scaling)
        for band in bright:
            index = normalised_difference(optical, names, band)
            # Pixels above each threshold, from the counts between them.
            for mask, sums in ((labelled, found), (labelled & glacier, hits)):
                place = np.searchsorted(THRESHOLDS, index[mask], side="left")
                counts = np.bincount(place, minlength=len(THRESHOLDS) + 1)
                sums[band] += counts[::-1].cumsum()[::-1][1:]
    scores = {band: hits[band] / np.maximum(total + found[band] - hits[band], 1) for band in bright}
    band = max(scores, key=lambda name: scores[name].max())
    best = int(scores[band].argmax())
    return {
        "band": band,
        "threshold": float(THRESHOLDS[best]),
        "training_iou": float(scores[band][best]),
    }


def normalised_difference(optical, names, band):
    """Return (band - SWIR1) / (band + SWIR1) of reflectances (y, x, band) with names.

    Reflectances below 0, as correction for the atmosphere leaves in shadow, are taken for 0.
    """
    a, b = (np.maximum(optical[..., names.index(name)], 0) for name in (band, DARK))
    return (a - b) / np.maximum(a + b, 1e-6)


def reflectance(optical, scaling):
    """Undo the linear scaling of the optical bands, where `Tiles.scaling` says what it was."""
    if "optical" not in (scaling or {}):
        return optical
    low, high = (np.array(scaling["optical"][key], np.float32) for key in ("low", "high"))
    return optical * (high - low) + low


def map_tiles(data, out):
    """Tune the rule on the training tiles, and map the test tiles by it.

    Writes ``predictions/band_ratio`` as `glavitu.prediction.predict` does, with 0 and 1 for
    probabilities.

    Returns
    -------
    dict
        The rule, as of `fit`.
    """
    train, test = (open_tiles(find_split(data, split)) for split in ("train", "test"))
    folder = Path(out) / "predictions" / NAME
    recipe = {"train": fingerprint(train.path), "data": fingerprint(test.path)}
    recipe["tiles"] = list(test)
    with locked(folder):
        if not is_predicted(folder, recipe):
            _map(train, test, folder, recipe)
        return read_json(folder / "predictions.json")["rule"]


def _map(train, test, folder, recipe):
    rule = fit(train)
    clear_predictions(folder)
    started = time.perf_counter()
    for name, tile in test.items():
        optical = reflectance(test.read(name, "optical"), test.scaling)
        index = normalised_difference(optical, test.band_names["optical"], rule["band"])
        mapped = index > rule["threshold"]
        prediction = as_prediction(tile, mapped.astype(np.float32), mapped.astype(np.uint8))
        write_netcdf(prediction, folder / f"{name}.nc")
    seconds = round(time.perf_counter() - started, 3)
    write_predicted(folder, recipe, rule=rule, seconds=seconds)
