"""Predictions as datasets, whatever made them, and whether a folder holds those that are wanted."""

import shutil

import numpy as np
import xarray as xr

from glavitu.differences import changes
from glavitu.files import read_json, write_json
from glavitu.hdf5 import check_label
from glavitu.provenance import fingerprint, provenance
from glavitu.surfaces import SURFACE
from glavitu.tiles import UNLABELLED


def as_prediction(tile, probability, mapped):
    """Return a dataset like `predict_tile`'s of a tile.

    `probability` (y, x) is that of glacier, `mapped` (y, x) the class, uint8.
    """
    result = xr.Dataset(
        {"probability": (("y", "x"), probability), "glacier": (("y", "x"), mapped)},
        coords={name: tile[name] for name in ("y", "x", "spatial_ref") if name in tile.coords},
        attrs={key: tile.attrs[key] for key in ("tile", "region") if key in tile.attrs},
    )
    if "groundtruth" in tile:
        label = tile["groundtruth"].values
        check_label(label, f"tile {tile.attrs.get('tile', '')}")
        classes = np.where(label.any(-1), label.argmax(-1), UNLABELLED).astype(np.uint8)
        result["groundtruth"] = (("y", "x"), classes)
    if SURFACE in tile:
        result[SURFACE] = (("y", "x"), tile[SURFACE].values)
    rows, columns = (tile.attrs.get(f"padding_{side}", 0) for side in ("height", "width"))
    height, width = probability.shape
    result = result.isel(y=slice(rows, height - rows), x=slice(columns, width - columns))
    return _describe(result)


def _describe(prediction):
    """Add what GIS software wants to know, by the CF conventions."""
    names = {
        "probability": "probability of the class glacier",
        "glacier": "mapped class",
        "groundtruth": "label",
        SURFACE: "what the ground is: see glavitu.surfaces.SURFACES and SKY",
    }
    if "spatial_ref" in prediction.coords:
        import rioxarray  # noqa: F401  registers .rio

        if prediction.rio.crs:
            prediction = prediction.rio.write_crs().rio.write_coordinate_system()
            prediction = prediction.rio.write_transform()
    for name, variable in prediction.items():
        variable.attrs["long_name"] = names[name]
        variable.encoding["zlib"] = True
        if name in ("glacier", "groundtruth"):
            flags = {"flag_values": np.array([0, 1], np.uint8)}
            variable.attrs |= flags | {"flag_meanings": "background glacier"}
    if "groundtruth" in prediction:
        prediction["groundtruth"].attrs["_FillValue"] = np.uint8(UNLABELLED)
    prediction.attrs["Conventions"] = "CF-1.11"
    return prediction


def is_predicted(folder, recipe):
    """Tell whether these very predictions are there."""
    if not (path := folder / "predictions.json").exists():
        return False
    record = read_json(path, "recipe")
    return record["recipe"] == recipe and record.get("files") == _files(folder, recipe)


def write_predicted(folder, recipe, **content):
    """Write the record of predictions, which says that all are there, and which files they are."""
    record = {"recipe": recipe, **content, "provenance": provenance()}
    write_json(folder / "predictions.json", record | {"files": _files(folder, recipe)})


def _files(folder, recipe):
    """Return the fingerprint of each tile's prediction, None of one that is not there."""
    paths = {tile: folder / f"{tile}.nc" for tile in recipe["tiles"]}
    return {tile: fingerprint(path) if path.exists() else None for tile, path in paths.items()}


def change_of(folder, recipe):
    """Return in words in what the predictions that are there differ, None where there are none."""
    record = folder / "predictions.json"
    if not record.exists():
        return None
    before = read_json(record, "recipe")["recipe"]
    before = before if isinstance(before, dict) else {}
    unspoken = {key: f"other {key}" for key in ("weights", "data", "tiles")}
    unspoken["weights_given"] = f"weights {'given' if before.get('weights_given') else 'left out'}"
    return changes(before, recipe, unspoken) or "files that are gone or changed"


def clear_predictions(folder):
    """Remove what other predictions left, their record first."""
    (folder / "predictions.json").unlink(missing_ok=True)
    for stale in (*folder.glob("[!.]*.nc"), *folder.glob("*.csv")):
        stale.unlink()
    for part in folder.glob(".part-*"):  # of a run that was killed
        shutil.rmtree(part)
