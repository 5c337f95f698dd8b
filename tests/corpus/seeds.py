"""Valid inputs, small and made once, which the cases break."""

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

import geopandas as gpd
import h5py
import numpy as np
import pandas as pd
import rasterio
import shapely
import yaml

from glavitu.files import write_json
from glavitu.hdf5_writing import write_tile
from glavitu.outputs import record_path
from glavitu.provenance import fingerprint

SIZES = {"fusion_filters": 4, "filters": 4, "steps": 2}
PROFILE = {"data": "unused", "architectures": ["resunet"], "sizes": {"resunet": SIZES}}
PROFILE |= {"patch_size": 16, "batch_size": 2, "epochs": 1, "steps": 1, "learning_rate": 0.001}
BANDS = {"optical": 2, "dem": 1}
PLACE = (30, 0, 500_000, 0, -30, 5_000_000)
SIDE = 20


@cache
def _store():
    folder = Path(tempfile.mkdtemp(prefix="glavitu-seeds-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def copy_of(make):
    """Return a function that copies what `make` makes once to a folder."""

    def copy(folder):
        seed = _store() / make.__name__
        if not seed.exists():
            seed.mkdir()
            make(seed)
        shutil.copytree(seed, folder, dirs_exist_ok=True)
        return folder

    return copy


def write_raster(path, values, *, transform=PLACE, crs="EPSG:32632", **options):
    """Write values (band, y, x) as a raster, by default a GeoTIFF in UTM 32N."""
    values = np.asarray(values)
    options = {"driver": "GTiff", "crs": crs, "transform": rasterio.Affine(*transform)} | options
    options |= {"count": len(values), "height": values.shape[1], "width": values.shape[2]}
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(path, "w", dtype=values.dtype, **options) as file:
        file.write(values)
    return path


def values_of(source, seed=0):
    """Return (band, y, x) of a raster of a tile."""
    rng = np.random.default_rng(seed)
    if source == "groundtruth":
        return rng.integers(0, 2, (1, SIDE, SIDE)).astype(np.uint8)
    return rng.uniform(1, 1000, (BANDS[source], SIDE, SIDE)).astype(np.float32)


@copy_of
def tile_table(folder):
    """``tiles.csv`` of three tiles, A-0 (train), A-1 (val), A-2 (test), and their GeoTIFFs."""
    rows = []
    for i, split in enumerate(("train", "val", "test")):
        row = {"tile": f"A-{i}", "region": "A", "split": split}
        for source in (*BANDS, "groundtruth"):
            row[source] = f"{source}_{i}.tif"
            write_raster(folder / row[source], values_of(source, i))
        rows.append(row)
    pd.DataFrame(rows).to_csv(folder / "tiles.csv", index=False)


@copy_of
def tile_files(folder):
    """``data/train.hdf5``, ``val`` and ``test``, and ``tiny.yaml``."""
    (folder / "data").mkdir()
    for split in ("train", "val", "test"):
        with h5py.File(folder / "data" / f"{split}.hdf5", "w") as file:
            for name in ("A-0", "B-0"):
                arrays = {s: np.moveaxis(values_of(s), 0, -1) / 1000 for s in BANDS}
                glacier = values_of("groundtruth")[0]
                arrays["groundtruth"] = np.stack([1 - glacier, glacier], -1).astype(np.float32)
                write_tile(file, name, arrays, {"region": name[0]})
    (folder / "tiny.yaml").write_text(yaml.safe_dump(PROFILE))


def write_record(weights, **content):
    """Write a record of the weights as they are, beside them."""
    write_json(record_path(weights), {"weights": fingerprint(weights)} | content)


@copy_of
def training(folder):
    """A training called mine: its weights and record, and `tile_files`."""
    from glavitu.models import build_model
    from glavitu.weights import save_weights

    tile_files(folder)
    model = build_model("resunet", inputs=BANDS, patch_size=16, **SIZES)
    save_weights(model, folder / "weights" / "mine.weights.h5")
    scaling = {s: {"low": [0.0] * n, "high": [1000.0] * n} for s, n in BANDS.items()}
    write_record(folder / "weights" / "mine.weights.h5", scaling=scaling)


@copy_of
def predictions(folder):
    """`training`, and its predictions of the test tiles."""
    from glavitu.prediction import predict

    training(folder)
    predict(name="mine", profile=folder / "tiny.yaml", data=folder / "data", out=folder)


@copy_of
def scene(folder):
    """`training`, the rasters ``optical.tif`` and ``dem.tif``, and ``outlines.gpkg``."""
    training(folder)
    for source in BANDS:
        write_raster(folder / f"{source}.tif", values_of(source))
    glacier = shapely.box(500_060, 4_999_600, 500_300, 4_999_900)
    outlines = gpd.GeoDataFrame({"id": [1]}, geometry=[glacier], crs="EPSG:32632")
    outlines.to_file(folder / "outlines.gpkg")
