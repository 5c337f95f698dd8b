"""Fixtures: tiny tiles, rasters and networks, made anew for each test that wants them."""

import os
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from glavitu import build_model, save_weights
from glavitu.backend import keras
from glavitu.files import write_json
from glavitu.geotiffs import to_dataarray, write_raster
from glavitu.hdf5_writing import write_tile
from glavitu.outputs import record_path
from glavitu.profiles import Profile
from glavitu.provenance import fingerprint

TINY_SIZES = {
    "setr": {"fusion_filters": 4, "embed_dim": 8, "mlp_dim": 8, "blocks": 1, "heads": 2}
    | {"decoder_filters": 4},
    "resunet": {"fusion_filters": 4, "filters": 4, "steps": 2},
    "transunet": {"fusion_filters": 4, "filters": 4, "steps": 2, "embed_dim": 8, "mlp_dim": 8}
    | {"blocks": 1, "heads": 2},
    "glavitu": {"fusion_filters": 4, "filters": 4, "steps": 2, "embed_dim": 8, "mlp_dim": 8}
    | {"blocks": 1, "heads": 2, "decoder_filters": 4},
}


SCENE_INPUTS = {"optical": 3, "dem": 2}
SCENE_SCALING = {
    "optical": {"low": [0] * 3, "high": [2] * 3},
    "dem": {"low": [0, 0], "high": [9, 9]},
}


def folder_from(variable):
    """Return the folder an environment variable names, or skip the test."""
    if variable not in os.environ:
        pytest.skip(f"{variable} is not set")
    return Path(os.environ[variable])


@pytest.fixture
def real_data():
    return folder_from("GLAVITU_REAL_DATA")


@pytest.fixture
def reference():
    return folder_from("GLAVITU_REFERENCE")


@pytest.fixture
def tiny_profile():
    return Profile(
        name="tiny",
        data="unused",
        sizes=TINY_SIZES,
        patch_size=16,
        batch_size=2,
        epochs=2,
        steps=2,
        learning_rate=1e-3,
        stride=8,
    )


def make_tile_arrays(rng, height, width, bands=None):
    """Return arrays of a tile whose glacier is where the first optical band is high."""
    bands = bands or {"optical": 3, "dem": 2}
    arrays = {s: rng.random((height, width, n), dtype=np.float32) for s, n in bands.items()}
    glacier = next(iter(arrays.values()))[..., 0] > 0.6
    arrays["groundtruth"] = np.stack([~glacier, glacier], -1).astype(np.float32)
    return arrays


@pytest.fixture
def tiny_data(tmp_path):
    """Make a data folder: two regions, tiles of 40x36 pixels, optical (3) and dem (2)."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "data"
    folder.mkdir()
    for split in ("train", "val", "test"):
        with h5py.File(folder / f"{split}.hdf5", "w") as file:
            for name in ("ALP1-0000", "SVAL1-0000"):
                padding = {"padding_height": 2, "padding_width": 0}
                write_tile(file, name, make_tile_arrays(rng, 40, 36), padding)
    return folder


@pytest.fixture
def tile_table(tmp_path):
    """Make a `tiles.csv` of three 20x20 GeoTIFF tiles, one per split; return its path."""
    rng = np.random.default_rng(1)
    rows = []
    for i, split in enumerate(("train", "val", "test")):
        row = {"tile": f"ALP-{i}", "region": "ALP", "split": split}
        for source, bands in {"optical": 2, "dem": 1, "groundtruth": 1}.items():
            values = rng.integers(1, 1000, (bands, 20, 20)).astype(np.int16)
            values = (values > 500).astype(np.uint8) if source == "groundtruth" else values
            row[source] = f"{source}_{i}.tif"
            write_geotiff(tmp_path / "rasters" / row[source], values)
        rows.append(row)
    table = tmp_path / "rasters" / "tiles.csv"
    pd.DataFrame(rows).to_csv(table, index=False)
    return table


def write_geotiff(path, values, *, transform=(30, 0, 500_000, 0, -30, 5_000_000), nodata=0):
    """Write values (band, y, x) as a GeoTIFF in UTM 32N."""
    nodata = None if "groundtruth" in str(path) else nodata
    write_raster(path, to_dataarray(values, transform, "EPSG:32632", nodata=nodata))


def weights_of(folder, name="resunet"):
    """Return the arrays of a training's weight file by their place in it."""
    arrays = {}
    with h5py.File(folder / "weights" / f"{name}.weights.h5") as file:
        file.visititems(
            lambda key, item: arrays.update({key: item[()]}) if hasattr(item, "shape") else None
        )
    return arrays


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    """Write the weights of a tiny network for scenes, and the record that `map_scene` reads."""
    path = tmp_path_factory.mktemp("trained") / "net.weights.h5"
    keras.utils.set_random_seed(0)
    model = build_model("glavitu", inputs=SCENE_INPUTS, patch_size=16, **TINY_SIZES["glavitu"])
    rng = np.random.default_rng(0)
    for variable in model.trainable_variables:  # as good as trained: answers differ from 0.5
        variable.assign(variable + rng.normal(0, 0.05, variable.shape))
    save_weights(model, path)
    write_record(path, scaling=SCENE_SCALING)
    return path


def write_record(path, **content):
    """Write the record of a training beside its weights."""
    write_json(record_path(path), {"weights": fingerprint(path)} | content)


@pytest.fixture
def scene(tmp_path):
    return make_scene(tmp_path / "scene", 70, 45)


def make_scene(folder, height, width, seed=0):
    """Write rasters of random values, with no data in a corner; return paths and arrays."""
    rng = np.random.default_rng(seed)
    paths, arrays = {}, {}
    for source, bands in SCENE_INPUTS.items():
        values = rng.uniform(0.1, 2, (height, width, bands)).astype(np.float32)
        if source == "optical":
            values[:4, :7] = np.nan
        arrays[source], paths[source] = values, folder / f"{source}.tif"
        transform = (30, 0, 500_000, 0, -30, 5_000_000)
        array = to_dataarray(values.transpose(2, 0, 1), transform, "EPSG:32632", nodata=np.nan)
        write_raster(paths[source], array)
    return paths, arrays
